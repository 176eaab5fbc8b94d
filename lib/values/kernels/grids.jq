# data/iq-grids.json -> grids.h: the codebooks, every entry written out, and as the level indices that it is packed from.
def braced: "{ " + (map(tostring) | join(", ")) + " }";

"/* Made from data/iq-grids.json by lib/values/kernels/grids.jq. */",
"#ifndef APR_KERNELS_GRIDS_H",
"#define APR_KERNELS_GRIDS_H",
"#include <stdint.h>",
(.grids | to_entries[] | .value as $grid |
    "static const int8_t \(.key)_grid[\($grid.entries)][\($grid.width)] = {",
    ($grid.codes[] as $code |
        [range($grid.width) as $j | $grid.levels[($code / pow(2; $grid.bits * $j) | floor) % pow(2; $grid.bits)]] | "    \(braced),"),
    "};",
    "static const uint16_t \(.key)_codes[\($grid.entries)] = \($grid.codes | braced);"),
"static const int8_t iq4nl_levels[16] = \(.kvalues_iq4nl.values | braced);",
"static const int8_t fp4_doubled[16] = \(.kvalues_fp4_doubled.values | braced);",
"static const uint32_t ue4m3_half[256] = \(.ue4m3_half_f32_bits.bits | braced);",
"#endif"
