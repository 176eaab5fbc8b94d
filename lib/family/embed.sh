# Prints files of one folder as C strings, for those who want them at run time: apr_embedded_families, of families/*.yaml, and the like.
name=apr_embedded_$(dirname "$1")
cat <<END
extern const struct embedded { const char *file, *text; } $name[];
const struct embedded $name[] = {
END
for file; do
    printf '{ "%s",\n' "$file"
    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' "$file"
    echo '},'
done
echo '{ 0, 0 } };'
