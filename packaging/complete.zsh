#compdef TOOL
# Completion of TOOL in zsh. TOOL itself says what could stand on its line (--complete); nothing of what it says is ever run.
local line suffixes tab=$'\t' result=1 width=0 i
local -a line_words said names shown alone

line_words=("${(@Q)words[2,-1]}")
line_words[CURRENT-1]=${(Q)PREFIX}
said=("${(@f)$(command TOOL --complete $((CURRENT - 2)) "${line_words[@]}" 2>/dev/null)}")
[[ $PREFIX == --*=* ]] && compset -P '--*='
for line in $said; do
    if [[ $line == ${tab}files* ]]; then
        suffixes=${${line#${tab}files}# }
        _path_files -/ && result=0
        if [[ -z $suffixes ]]; then
            _path_files && result=0
        elif [[ $suffixes != / ]]; then
            _path_files -g "*.(${suffixes// /|})(-.)" && result=0
        fi
    else
        names+=("${line%%$tab*}")
        shown+=("$line")
        (($#names[-1] > width)) && width=$#names[-1]
    fi
done
for ((i = 1; i <= $#shown; i++)); do # descriptions stand one below the other, a candidate a line
    [[ $shown[i] == *$tab* ]] && shown[i]="${(r:width:)names[i]}  -- ${shown[i]#*$tab}" alone=(-l)
done
(($#names)) && compadd $alone -d shown -a names && result=0
return result
