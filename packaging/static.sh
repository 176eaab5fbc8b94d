# static.sh BUILD OUT TOOL...: links the objects of all tools below BUILD into one static program. CC and CFLAGS are from the environment.
set -eu
export LC_ALL=C
build=$1 out=$2
shift 2
work=$build/packed
mkdir -p "$work"
archive() { $CC -print-file-name="lib$1.a"; }

# Each tool's objects as one, in which no name but its main can be seen.
objects=
for tool; do
    ld -r -o "$work/$tool.o" $(printf '%s\n' "tools/$tool"/*.c | sed "s|.*|$build/&|; s/c\$/o/")
    main=$(echo "$tool" | tr - _)_main
    objcopy --redefine-sym "main=$main" --keep-global-symbol="$main" "$work/$tool.o"
    objects="$objects $work/$tool.o"
done

# A table that is packed: the section of an object becomes a place without content, what was in it an array. No pointers may be in it, or
# ones alone that nobody follows: those of utf8proc are to the texts of errors.
pack() { # NAME OBJECT SECTION
    objcopy -O binary --only-section="$3" "$2" "$work/$1.raw"
    "$work/pack" "$1" <"$work/$1.raw" >>"$work/packed.h"
    objcopy --remove-relocations="$3" --set-section-flags "$3=alloc" --rename-section "$3=.bss.$1,alloc" "$2" "$work/$1.o"
    objcopy --add-symbol "apr_packed_$1=.bss.$1:0,global" "$work/$1.o"
    objects="$objects $work/$1.o"
}
$CC -O2 -o "$work/pack" packaging/pack.c -lzstd
tools=
for tool; do
    brief=$(sed -n 's/^ *\.brief = \(".*"\),.*/\1/p' "tools/$tool/main.c")
    tools="$tools TOOL(${tool#apr-}, ${brief:?is not in main.c})"
done
echo "#define APR_TOOLS$tools" >"$work/packed.h"
(cd "$work" && ar x "$(archive utf8proc)" utf8proc.o && ar x "$(archive pcre2-8)" libpcre2_8_la-pcre2_ucd.o)
pack families "$build/families.o" .rodata.str1.1
pack expressions "$build/lib/token/pre.o" .rodata.str1.1
pack script "$build/lib/ui/page.o" .rodata.shared_script
objects=${objects% *} # what follows is the same object
pack style "$work/script.o" .rodata.css
pack grids "$build/lib/values/kernels/iq.o" .rodata
pack unicode "$work/utf8proc.o" .rodata
pack properties "$work/libpcre2_8_la-pcre2_ucd.o" .rodata

# Hashes: the header has them all, as functions of which those that are called stay.
echo '#include <xxhash.h>' | $CC $CFLAGS -O2 -DXXH_STATIC_LINKING_ONLY -DXXH_IMPLEMENTATION -x c -c -o "$work/xxhash.o" -
objects="$objects $work/xxhash.o"

# All ways to a table lead by packaging/static.c.
wrapped=$(sed -n 's/^BY_WAY([a-z]*, [^(]*, \([a-z0-9_]*\),.*/\1/p' packaging/static.c)
for name in $(nm -u "$build/libaprtools.a" $objects 2>/dev/null | sed -n 's/^ *U \(utf8proc_.*\)/\1/p' | sort -u); do
    echo "$wrapped" | grep -qx "$name" || { echo "static.sh: packaging/static.c does not know $name" >&2; exit 2; }
done

# Functions that libraries bring and no tool calls: what reads old forms of zstd, a compiler, what loads character sets and what unwinds
# threads that are cancelled; and, since nothing unwinds, what tells how; what prints wide characters, where a message of the C library
# meets a stream of them.
absent=$(nm -u "$(archive zstd)" "$(archive pcre2-8)" "$(archive c)" 2>/dev/null | sed 's/.* //' | sort -u |
    grep -Ex -e '(ZSTD|ZBUFF)v0[0-9]_.*|_?pcre2_jit_.*|_Unwind_[A-Za-z]*|__gcc_personality_v0' \
        -e '__gconv_(find|release)_shlib|__vfwprintf_internal')
for library in c $(pkg-config --static --libs-only-l $PACKAGES | sed 's/-l//g'); do
    test ! -e "$(archive "$library")" || objcopy --remove-section=.eh_frame "$(archive "$library")" "$work/lib$library.a"
done

$CC $CFLAGS "-DAPR_VERSION=\"$(cat VERSION)\"" -iquote "$work" -c -o "$work/static.o" packaging/static.c
$CC -static -no-pie -s -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,noseparate-code $(printf -- '-Wl,--wrap=%s ' $wrapped) \
    $(printf -- '-Wl,--defsym=%s=apr_absent ' $absent) -o "$out.part" "$work/static.o" $objects "$build/libaprtools.a" \
    -L"$work" $(pkg-config --static --libs $PACKAGES) -lm -pthread ${MAP:+-Wl,-Map=$MAP}
mv "$out.part" "$out"
