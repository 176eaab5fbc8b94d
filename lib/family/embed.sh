# Prints files of one folder as C strings, for those who want them at run time: apr_embedded_families, of families/*.yaml, with an index of
# each that is read in its stead, and the like.
folder=$(basename "$(dirname "$1")")
name=apr_embedded_$folder
test "$folder" = families && members="*detect[5], *words, *globs;"
cat <<END
extern const struct embedded { const char *file, *text; ${members:+const char $members} } $name[];
const struct embedded $name[] = {
END
for file; do
    printf '{ "%s",\n' "$file"
    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' "$file"
    test -z "$members" || { echo ,; awk -f "$(dirname "$0")/index.awk" "$file"; }
    echo '},'
done
echo '{ 0 } };'
