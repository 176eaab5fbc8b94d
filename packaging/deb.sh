# deb.sh VERSION SECONDS: build/apr-tools_VERSION_ARCH.deb, of what `make install` has laid into build/deb/root.
set -eu
umask 022
version=$1 arch=$(dpkg --print-architecture) work=build/deb root=build/deb/root doc=build/deb/root/usr/share/doc/apr-tools
export SOURCE_DATE_EPOCH=$2
if ! head -n 1 packaging/changelog | grep -q "^apr-tools ($version) "; then
    echo "packaging/changelog does not begin with version $version" >&2
    exit 2
fi

strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root"/usr/bin/*
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
gzip -9n "$root"/usr/share/man/man1/*
gzip -9nc packaging/changelog >"$doc/changelog.gz"
cp packaging/copyright "$doc/copyright"

# dpkg-shlibdeps wants to be where a debian/control is.
mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: apr-tools\n\nPackage: apr-tools\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/* | sed -n 's/^shlibs:Depends=//p')
size=$(find "$root/usr" -type f -printf '%s\n' | awk '{ n += int(($1 + 1023) / 1024) } END { print n }')
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@DEPENDS@/$depends/" packaging/control >"$root/DEBIAN/control"
(cd "$root" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"

chmod -R u=rwX,go=rX "$root"
find "$root" -exec touch -h -d "@$2" {} +
dpkg-deb --root-owner-group -Zxz --build "$root" "build/apr-tools_${version}_$arch.deb" >"$work/log"
