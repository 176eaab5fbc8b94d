# dist.sh NAME SECONDS: build/NAME.tar.xz, the sources as git tracks them, or without git all but build/. The same bytes at every run.
set -eu
umask 022
mkdir -p build
list=build/$1.list tar=build/$1.tar
if [ -e .git ]; then
    git ls-files -z >"$list"
else
    find . -path ./build -prune -o \( -type f -o -type l \) -printf '%P\0' >"$list"
fi
LC_ALL=C sort -z -o "$list" "$list"
tar --create --file="$tar" --format=gnu --null --no-recursion --files-from="$list" --transform="flags=r;s,^,$1/," \
    --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$2"
xz -9 -T1 -f "$tar"
rm "$list"
