# Prints files as C strings: families/*.yaml, for lib/family/family.c to find at run time.
cat <<'END'
extern const struct embedded { const char *file, *text; } apr_embedded_families[];
const struct embedded apr_embedded_families[] = {
END
for file; do
    printf '{ "%s",\n' "$file"
    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' "$file"
    echo '},'
done
echo '{ 0, 0 } };'
