/* How llama.cpp cuts a text for a byte-level BPE, by the name that tokenizer.ggml.pre holds. Where it goes another way than the
 * tokenizer.json that the name stands for (letters have no case outside ASCII, say), this goes its way: ids are to be the same. */
#include "token/split.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "token/expression_parts.h"

#define S           "[" APR_SPACES "]"
#define NOT_S       "[^" APR_SPACES "]"
#define SHORT       "'s|'t|'re|'ve|'m|'ll|'d"
#define ANY_SHORT   "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define LEAD        "[^\\r\\n\\p{L}\\p{N}]?"
#define BLANKS      "|" S "+(?!" NOT_S ")|" S "+"
#define LINES       "|" S "*[\\r\\n]+" BLANKS
#define SIGNS       "| ?[^" APR_SPACES "\\p{L}\\p{N}]+[\\r\\n]*"
#define WORDS(n)    LEAD "\\p{L}+|" n SIGNS LINES

#define GPT2        SHORT "| ?\\p{L}+| ?\\p{N}+| ?[^" APR_SPACES "\\p{L}\\p{N}]+" BLANKS
#define LLAMA3      ANY_SHORT "|" WORDS("\\p{N}{1,3}")
#define QWEN2       ANY_SHORT "|" WORDS("\\p{N}")
#define QWEN35      ANY_SHORT "|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^" APR_SPACES "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" LINES

/* A word in two: what is no small letter of ASCII, then what is no capital one. */
#define UPPER       "[^\\P{L}a-z]"
#define LOWER       "[^\\P{L}A-Z]"
#define PATHS       "| ?[^" APR_SPACES "\\p{L}\\p{N}]+[\\r\\n/]*" LINES
#define CASED(u, l, behind, n)  LEAD u "*" l "+" behind "|" LEAD u "+" l "*" behind "|" n PATHS
#define LETTERS     "[\\p{L}\\p{M}]"

#define ASCII_SIGNS "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
#define DEEPSEEK(e) ASCII_SIGNS "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+" e
#define CJK         "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+"
#define EAST        "[\\x{800}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}" \
                    "\\x{3001}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+" /* but for blanks */

/* Letters with case of the time when DeepSeek listed them, but for those of mathematics. */
#define LATER       "\\x{560}-\\x{588}\\x{10c7}\\x{10cd}\\x{10d0}-\\x{10ff}\\x{1c80}-\\x{1c88}\\x{2d00}-\\x{2d2d}\\x{a790}-\\x{a7fa}" \
                    "\\x{ab30}-\\x{ab68}\\x{10570}-\\x{105b9}\\x{16e40}-\\x{16e7f}\\x{1d400}-\\x{1df1e}"
#define LISTED      S "?(?:(?![" LATER "])[\\p{Lu}\\p{Ll}\\p{Lt}])+"
#define LISTED_SIGNS S "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3001}\\x{3002}]+" /* U+3000 is a blank */
#define AT_THE_END  "(?<!" S ")" S "+\\z" /* a run has one beginning: no more are tried */

#define HAN         "\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{20000}-\\x{2a6df}\\x{2a700}-\\x{2ebef}\\x{f900}-\\x{faff}" \
                    "\\x{2f800}-\\x{2fa1f}"
#define NOT_HAN     "[^\\P{L}" HAN "]"
#define KIMI        "[" HAN "]+|" LEAD NOT_HAN "+" ANY_SHORT "?|\\p{N}{1,3}" SIGNS LINES

#define YOUTU_SCRIPTS                                                                                                        \
    "[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}" \
    "\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+|[\\x{3105}-\\x{312f}]+|" CJK
#define AFMOE_SCRIPTS                                                                                                        \
    "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{8c48}-\\x{faff}\\x{3040}-\\x{30ff}\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}" \
    "\\x{e40}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+"
#define BLOOM       " ?[^(" APR_SPACES "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
#define HALVES      "|" S "{512}(?!" NOT_S ")|" S "{256}(?!" NOT_S ")|" S "{128}(?!" NOT_S ")|" S "{64}(?!" NOT_S ")|" S "{32}(?!" NOT_S ")"
#define HALVES_ON   "|" S "{16}(?!" NOT_S ")|" S "{8}(?!" NOT_S ")|" S "{4}(?!" NOT_S ")|" S "{1,2}(?!" NOT_S ")|" S

static const struct apr_pre pres[] = {
    { .names = " default ", .step = { "[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" } },
    { .names = " llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ", .step = { LLAMA3 },
      .ignore_merges = true, .add_bos = true },
    { .names = " dbrx smaug-bpe ", .step = { LLAMA3 } },
    { .names = " chatglm-bpe ", .step = { LLAMA3 }, .no_bos = true },
    { .names = " glm4 glm5 ", .step = { LLAMA3 }, .no_bos = true, .ignore_merges = true },
    { .names = " gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en jina-v2-code "
               "roberta-bpe exaone4 mpt olmo jais trillion granite-docling ", .step = { GPT2 } },
    { .names = " starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 ", .step = { "\\p{N}", GPT2 } },
    { .names = " falcon ", .step = { "[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]" } },
    { .names = " qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2 ", .step = { QWEN2 } },
    { .names = " qwen35 ", .step = { QWEN35 } },
    { .names = " ufakzeka ", .step = { WORDS("\\p{N}") } },
    { .names = " laguna ", .step = { "[^\\n]+|\\n+", QWEN2 } },
    { .names = " minicpm5 ", .step = { "\\p{N}{1,3}", ANY_SHORT "|" WORDS("\\p{N}+") }, .ignore_merges = true },
    { .names = " seed-coder ",
      .step = { ANY_SHORT "|" LEAD "\\p{L}+|\\p{N}| ?[^" APR_SPACES "\\p{L}\\p{N}\\r\\n]+" LINES } },
    { .names = " bailingmoe bailingmoe2 llada-moe ",
      .step = { "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" LEAD "\\p{L}+|\\p{N}" SIGNS "|" S "*[\\r\\n]" BLANKS } },
    { .names = " exaone-moe ",
      .step = { ANY_SHORT "|" LEAD "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^" APR_SPACES "\\p{L}\\p{N}]+[\\r\\n/]?|" S
                "*[\\r\\n]" BLANKS } },
    { .names = " jais-2 ", .step = { ANY_SHORT "|" LEAD "\\p{L}+|\\p{N}{1,3}" SIGNS "|" S "*[\\r\\n]+" HALVES HALVES_ON } },
    { .names = " tekken ", .step = { CASED(UPPER, LOWER, "", "\\p{N}") }, .ignore_merges = true, .add_bos = true },
    { .names = " gpt-4o llama4 kanana2 talkie minimax-m2 ", .step = { CASED(UPPER, LOWER, ANY_SHORT "?", "\\p{N}{1,3}") } },
    { .names = " granite-embed-multi-97m ",
      .step = { CASED("(?:(?![a-z])" LETTERS ")", "(?:(?![A-Z])" LETTERS ")", ANY_SHORT "?", "\\p{N}{1,3}") }, .ignore_merges = true },
    { .names = " tiny_aya cohere2moe ",
      .step = { APR_GROUPS_OF_DIGITS, CASED(LETTERS, LETTERS, ANY_SHORT "?", "\\p{N}{1,3}") } },
    { .names = " youtu ", .step = { YOUTU_SCRIPTS, CASED(LETTERS, LETTERS, ANY_SHORT "?", "\\p{N}") }, .ignore_merges = true },
    { .names = " kimi-k2 ", .step = { KIMI } },
    { .names = " deepseek-llm ", .step = { "[\\r\\n]", LISTED, LISTED_SIGNS, AT_THE_END, EAST, "\\p{N}+" } },
    { .names = " deepseek-coder ", .step = { "[\\r\\n]", S "?\\p{L}+", S "?\\p{P}+", EAST, "\\p{N}" } },
    { .names = " deepseek-v3 hunyuan-dense joyai-llm hy_v4 ", .step = { "\\p{N}{1,3}", CJK, DEEPSEEK("[\\r\\n]*" LINES) } },
    { .names = " spark2_5 ", .step = { "\\p{N}{1,3}", CJK, DEEPSEEK("|[\\r\\n]" BLANKS), "\\p{N}" } },
    { .names = " afmoe ", .step = { APR_GROUPS_OF_DIGITS, AFMOE_SCRIPTS, DEEPSEEK("[\\r\\n]*" LINES) } },
    { .names = " superbpe ", .step = { "\\p{N}+", "(?=(?:[0-9]{3})+(?![0-9]))" } },
    { .names = " poro-chat bloom gpt3-finnish ", .step = { BLOOM } },
    { .names = " viking ", .step = { BLOOM, "\\p{N}" } },
    { .names = " chameleon ",
      .step = { "<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}", "[\\p{P}!-/:-@\\[-`{-~]", GPT2 },
      .add_bos = true },
    { .names = " gemma4 granite-embed-multi-311m ", .step = { "[^\\n]+|\\n+" }, .no_bytes = true, .escape = true, .whole_lines = true },
    { .names = " sarvam-moe ", .step = { "[^\\n]+|\\n+" }, .no_bytes = true, .escape = true },
};

const struct apr_pre *apr_pre_named(struct apr_bytes name)
{
    char word[48];
    if (name.n == 0)
        return &pres[0];
    if (name.n > sizeof word - 3 || memchr(name.at, ' ', name.n) != NULL || memchr(name.at, 0, name.n) != NULL)
        return NULL;
    snprintf(word, sizeof word, " %.*s ", APR_PRINTED(name));
    for (size_t i = 0; i < APR_LENGTH(pres); i++)
        if (strstr(pres[i].names, word) != NULL)
            return &pres[i];
    return NULL;
}
