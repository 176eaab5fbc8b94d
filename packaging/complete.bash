# Completion of TOOL in bash. TOOL itself says what could stand on its line (--complete); nothing of what it says is ever run.

# A word as a command would get it: without quotes and backslashes, nothing expanded. Sets plain, and quote when it is still open.
__apr_unquote() {
    local i c
    plain= quote=
    for ((i = 0; i < ${#1}; i++)); do
        c=${1:i:1}
        if [[ $quote == \' && $c != \' ]]; then
            plain+=$c
        elif [[ $c == [\'\"] && ( -z $quote || $quote == "$c" ) ]]; then
            [[ $quote ]] && quote= || quote=$c
        elif [[ $c == \\ ]]; then
            ((++i))
            plain+=${1:i:1}
        else
            plain+=$c
        fi
    done
}

# What a candidate looks like behind the quote that is open.
__apr_quote() {
    case $quote in
    \') reply=${reply//\'/\'\\\'\'} ;;
    \") reply=${reply//\\/\\\\} reply=${reply//\"/\\\"} reply=${reply//\$/\\\$} reply=${reply//\`/\\\`} ;;
    *) printf -v reply %q "$reply" ;;
    esac
}

# Files that have one of the suffixes, any without one, and folders.
__apr_files() {
    local file suffix found
    while IFS= read -r file; do
        [[ -e ${file/#'~/'/$HOME/} ]] || continue # half of a name with a line's end in it
        found=$([[ -d ${file/#'~/'/$HOME/} || $# == 0 ]] && echo 1)
        for suffix; do
            [[ $file == *."$suffix" ]] && found=1
        done
        [[ $found ]] && COMPREPLY+=("$file")
    done < <(compgen -f -- "$value")
    compopt -o filenames 2>/dev/null
}

__TOOL_complete() {
    local words=() at=0 before= glued= quote plain open= raw line reply value option= i
    for ((i = 1; i < ${#COMP_WORDS[@]}; i++)); do # readline cuts words at "=" and ":"
        raw=${COMP_WORDS[i]}
        __apr_unquote "$raw"
        if [[ $raw =~ ^[=:]+$ || $glued ]] && ((i > 1)); then
            ((i == COMP_CWORD)) && before=${words[-1]}
            words[-1]+=$plain
        else
            words+=("$plain")
        fi
        [[ $raw =~ ^[=:]+$ ]] && glued=1 || glued=
        ((i == COMP_CWORD)) && at=$((${#words[@]} - 1)) open=$quote
        ((i == COMP_CWORD)) && [[ $glued ]] && before=${words[-1]}
    done
    quote=$open value=${words[at]}
    [[ $value == --*=* ]] && option=${value%%=*}= value=${value#*=}
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == $'\t'files* ]]; then
            __apr_files ${line#$'\t'files}
        else
            reply=$option${line%%$'\t'*}
            reply=${reply#"$before"}
            __apr_quote
            COMPREPLY+=("$reply")
        fi
    done < <(command TOOL --complete "$at" "${words[@]}" 2>/dev/null)
}
complete -F __TOOL_complete TOOL
