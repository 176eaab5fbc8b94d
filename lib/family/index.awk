# Prints, of a contract, what tells before it is parsed whether it is wanted, as members of a C struct (lib/family/family.c): the lists of its
# `detect`, every word that could be part of a tensor's name, the longest word of each glob. Blanks stand around each.
function quote(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\"" }

function spaced(s) { gsub(/[][ \t,"']+/, " ", s); return s ~ /[^ ]/ ? " " s " " : "" }

# "[a, b]" behind the key.
function list(key) { return match(detect, key ": *\\[[^]]*") ? spaced(substr(detect, RSTART + length(key) + 1, RLENGTH - length(key) - 1)) : "" }

function longest(glob,   part, n, i, word) {
    gsub(/\{[^}]*\}/, "*", glob)
    n = split(glob, part, /[^A-Za-z0-9_-]+/)
    for (i = 1; i <= n; i++)
        if (length(part[i]) > length(word))
            word = part[i]
    return word == "" ? "*" : word
}

/^ *#/ { next }
/^[^ \t-]/ { section = $1 }
section == "detect:" { detect = detect " " $0 }
section == "skip:" || section == "buffers:" { line = $0; sub(/^[a-z]*:/, "", line); dropped = dropped " " line }
{
    n = split($0, part, /[][ \t.,\/"'{}():*+]+/)
    for (i = 1; i <= n; i++)
        if (part[i] != "" && !(part[i] in seen)) {
            seen[part[i]]
            words = words " " part[i]
        }
}
END {
    gsub(/\{[^}]*\}/, "*", dropped)
    n = split(spaced(dropped), part, " ")
    for (i = 1; i <= n; i++)
        globs = globs " " longest(part[i])
    printf "{ %s, %s, %s, %s, %s },\n%s,\n%s,\n", quote(list("architectures")), quote(list("model_types")), quote(list("gguf")),
           quote(list("tensors")), quote(list("without")), quote(words " "), quote(globs " ")
}
