# Completion of TOOL in fish. TOOL itself says what could stand on its line (--complete); nothing of what it says is ever run.
function __TOOL_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set word (string unescape -- $word 2>/dev/null; or string trim -lc '\'"' -- $word)
    set -l option (string match -r -- '^--[^=]*=' $word; or echo)
    set -l value (string replace -r -- '^--[^=]*=' '' $word)
    for line in (command TOOL --complete (math (count $words) - 1) $words[2..-1] "$word" 2>/dev/null)
        if not string match -q -- \tfiles'*' $line
            echo -- $option$line
            continue
        end
        set -l suffixes (string split -n ' ' -- (string replace \tfiles '' -- $line))
        set -l home (string match -r -- '^~/' $value; and echo $HOME/)
        for path in (string replace -r -- '^~/' $HOME/ $value)*
            set -l shown (string replace -- "$home[2]" "$home[1]" $path)
            if test -d $path
                echo -- $option$shown/
            else if test -z "$suffixes"; or string match -qr -- '\.('(string join '|' $suffixes)')$' $path
                echo -- $option$shown
            end
        end
    end
end
complete -c TOOL -f -a '(__TOOL_complete)'
