/* How a byte-level BPE cuts a text before it merges: tokenizer.json's pre_tokenizer by llama.cpp's name for it, and back. */
#include "token/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/json.h"

#define DEPTH 8u /* of Sequences in Sequences */

/* ---- expressions ----------------------------------------------------------------------------------------------------- */

#define CONTRACTED "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define ENDING     "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS      CONTRACTED "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define MARKS      "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" ENDING
#define UPPER      "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER      "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(c)   "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" c "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" c "|"
#define PATHS      "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" ENDING

#define RE3  WORDS "\\p{N}{1,3}" MARKS
#define RE1  WORDS "\\p{N}" MARKS
#define RET  CASED("") "\\p{N}" PATHS
#define RE4O CASED(CONTRACTED "?") "\\p{N}{1,3}" PATHS
#define REV3                                                                                                             \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" ENDING
#define CJK  "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
#define EAST "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

/* What a pre_tokenizer does, in one line: its parts in order, each with what it depends on; an end of line in an expression is spelled. */
#define END       "\x1f" /* which no expression has */
#define BYTES     "ByteLevel" END
#define BY_WORD   "ByteLevel+regex" END
#define SPLIT(re) "Split:" re END
#define DIGITS    "Digits+individual" END
#define MARKS_IN_A_ROW "Punctuation:Contiguous" END
#define RUNS_OF_DIGITS "Digits" END

#define LINE_END       "[\\r\\n]"
#define DEEPSEEK_CODER SPLIT(LINE_END) SPLIT("\\s?\\p{L}+") SPLIT("\\s?\\p{P}+") SPLIT(EAST) DIGITS BYTES
#define DEEPSEEK_LLM                                                                                                     \
    SPLIT(LINE_END) SPLIT("\\s?[\\p{Lu}\\p{Ll}\\p{Lt}]+")                                                                     \
    SPLIT("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+") SPLIT("\\s+$") SPLIT(EAST) DIGITS BYTES

/* ---- names ----------------------------------------------------------------------------------------------------- */

/* What tells names of one kind of cutting apart. */
enum sign {
    ALWAYS, NEVER, NFC, NAMES_CLS, OF_PHI, OF_SMOLLM, NO_INFILL, MORE_THAN_STARCODER, IGNORES_MERGES, ADDS_BOS, OF_FALCON3,
    OF_DEEPSEEK, OF_LLAMA4,
};

/* Both ways: the first of what it does that fits; of its name the first. A family that calls it so stands for the first
 * sign, not for the second. nfc, ignores_merges: what goes with it on the way back. */
static const struct kind {
    const char *does;
    enum sign   sign[2];
    const char *name;
    bool        nfc, ignores_merges;
} kinds[] = {
    { BY_WORD, { NFC }, "olmo", true, false },
    { BY_WORD, { NAMES_CLS }, "roberta-bpe", false, false },
    { BY_WORD, { OF_PHI }, "phi-2", false, false },
    { BY_WORD, { ALWAYS }, "gpt-2", false, false },
    { DIGITS BY_WORD, { OF_SMOLLM, NO_INFILL }, "smollm", false, false },
    { DIGITS BY_WORD, { MORE_THAN_STARCODER }, "refact", false, false },
    { DIGITS BY_WORD, { ALWAYS }, "starcoder", false, false },
    { SPLIT(RE3) BYTES, { IGNORES_MERGES, ADDS_BOS }, "llama-bpe", false, true },
    { SPLIT(RE3) BYTES, { IGNORES_MERGES, OF_FALCON3 }, "falcon3", false, true },
    { SPLIT(RE3) BYTES, { IGNORES_MERGES }, "smaug-bpe", false, true },
    { SPLIT(RE3) BYTES, { ALWAYS }, "dbrx", false, false },
    { SPLIT(RE1) BYTES, { OF_DEEPSEEK }, "deepseek-r1-qwen", true, false },
    { SPLIT(RE1) BYTES, { ALWAYS }, "qwen2", true, false },
    { SPLIT(RET) BYTES, { ALWAYS }, "tekken", false, true },
    { SPLIT(RE4O) BYTES, { OF_LLAMA4 }, "llama4", false, false },
    { SPLIT(RE4O) BYTES, { ALWAYS }, "gpt-4o", false, false },
    { MARKS_IN_A_ROW BY_WORD RUNS_OF_DIGITS SPLIT("[0-9][0-9][0-9]"), { ALWAYS }, "falcon", false, false },
    { SPLIT("\\p{N}{1,3}") SPLIT(CJK) SPLIT(REV3) BYTES, { ALWAYS }, "deepseek-v3", false, false },
    { DEEPSEEK_CODER, { ALWAYS }, "deepseek-coder", false, false },
    { DEEPSEEK_LLM, { ALWAYS }, "deepseek-llm", false, false },
    { SPLIT(RE3) BYTES, { NEVER }, "falcon-h1", false, true },
    { SPLIT(RE3) BYTES, { NEVER }, "lfm2", false, true },
    { SPLIT(RE3) BYTES, { NEVER }, "llama3", false, true },   /* older names, and what llama.cpp cuts in the same way */
    { SPLIT(RE3) BYTES, { NEVER }, "llama-v3", false, true },
    { SPLIT(RE3) BYTES, { NEVER }, "pixtral", false, true },
    { BY_WORD, { NEVER }, "mpt", true, false },
    { BY_WORD, { NEVER }, "exaone4", false, false },
    { DIGITS BY_WORD, { NEVER }, "command-r", true, false },
    { SPLIT(RE3) BYTES, { NEVER }, "glm4", false, true },
    { SPLIT(RE1) BYTES, { NEVER }, "stablelm2", true, false },
    { SPLIT(RE1) BYTES, { NEVER }, "hunyuan", false, false },
    { SPLIT(RE4O) BYTES, { NEVER }, "minimax-m2", false, false },
    { SPLIT("\\p{N}{1,3}") SPLIT(CJK) SPLIT(REV3) BYTES, { NEVER }, "hunyuan-dense", false, false },
    { SPLIT(WORDS "\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" ENDING) BYTES, { ALWAYS }, "seed-coder", false, false },
    { SPLIT(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+") BYTES, { ALWAYS }, "bloom", false, false },
    { BY_WORD, { NEVER }, "modern-bert", true, false },
    { BY_WORD, { NEVER }, "jina-v2-es", false, false },
    { BY_WORD, { NEVER }, "jina-v2-code", false, false },
};

/* ---- recognising ----------------------------------------------------------------------------------------------------- */

static bool has_token(const struct apr_vocabulary *v, const char *text) { return apr_vocabulary_find(v, apr_text(text)) != NULL; }

static bool shows(const struct apr_pretoken_facts *f, enum sign sign)
{
    const struct apr_token *const second = apr_vocabulary_token(f->v, 1);
    switch (sign) {
    case ALWAYS:              return true;
    case NEVER:               return false;
    case NFC:                 return apr_bytes_have(f->normalizer, "\"NFC\"");
    case NAMES_CLS:           return f->cls;
    case OF_PHI:              return f->v->size == 50295; /* GPT-2's 50,257, and 38 runs of blanks */
    case OF_SMOLLM:           return second != NULL && apr_bytes_is(second->text, "<|im_start|>");
    case NO_INFILL:           return !has_token(f->v, "<fim_prefix>"); /* Granite's code models are Llamas of SmolLM's size */
    case MORE_THAN_STARCODER: return f->v->size > 49152;
    case IGNORES_MERGES:      return f->ignore_merges;
    case ADDS_BOS:            return f->bos;
    case OF_FALCON3:          return f->v->size >= 131072 && has_token(f->v, ">>TITLE<<");
    case OF_DEEPSEEK:         return has_token(f->v, "<\uff5cbegin\u2581of\u2581sentence\uff5c>");
    case OF_LLAMA4:           return has_token(f->v, "<|header_start|>");
    }
    return false;
}

/* Its parts as they are found, in `does`. */
struct finding {
    struct apr_vocabulary *scratch;
    FILE                  *does;
};

static struct apr_bytes text_of(const struct apr_value *v) { return v->type == APR_META_STRING ? v->text : (struct apr_bytes){ 0 }; }

enum { TYPE, PARTS, PATTERN, USE_REGEX, INDIVIDUAL, BEHAVIOR, NMEMBERS };

/* {"String": "..."} or {"Regex": "..."}. Published files have "\r" in an expression as it is, or spelled with a backslash. */
static enum apr_code say_split(struct finding *f, const struct apr_value *pattern, struct apr_error *e)
{
    struct apr_member m[] = { { .key = "Regex" }, { .key = "String" } };
    APR_TRY(apr_take_members(f->scratch, pattern, m, 2, e));
    const struct apr_bytes re = text_of(&m[m[0].value.type == APR_META_STRING ? 0 : 1].value);
    fputs("Split:", f->does);
    for (size_t i = 0; i < re.n; i++)
        if (re.at[i] == '\r' || re.at[i] == '\n')
            fputs(re.at[i] == '\r' ? "\\r" : "\\n", f->does);
        else
            putc(re.at[i], f->does);
    fputs(END, f->does);
    return APR_OK;
}

static enum apr_code say(struct finding *f, const struct apr_member *m, struct apr_error *e)
{
    const struct apr_bytes type = text_of(&m[TYPE].value), behavior = text_of(&m[BEHAVIOR].value);
    if (apr_bytes_is(type, "Split"))
        return say_split(f, &m[PATTERN].value, e);
    if (apr_bytes_is(type, "ByteLevel"))
        fputs(m[USE_REGEX].value.type == APR_META_BOOL && !m[USE_REGEX].value.b ? BYTES : BY_WORD, f->does);
    else if (apr_bytes_is(type, "Digits"))
        fputs(m[INDIVIDUAL].value.type == APR_META_BOOL && m[INDIVIDUAL].value.b ? DIGITS : RUNS_OF_DIGITS, f->does);
    else if (apr_bytes_is(type, "Punctuation"))
        fprintf(f->does, "Punctuation:%.*s" END, APR_PRINTED(behavior));
    else if (!apr_bytes_is(type, "Sequence"))
        fprintf(f->does, "%.*s" END, APR_PRINTED(type));
    return APR_OK;
}

static enum apr_code find(struct finding *f, const struct apr_value *part, unsigned levels, struct apr_error *e)
{
    struct apr_member m[NMEMBERS] = { { .key = "type" },      { .key = "pretokenizers" },     { .key = "pattern" },
                                      { .key = "use_regex" }, { .key = "individual_digits" }, { .key = "behavior" } };
    struct apr_walk w;
    struct apr_item item;
    APR_TRY(apr_take_members(f->scratch, part, m, NMEMBERS, e));
    APR_TRY(say(f, m, e));
    bool more = m[PARTS].value.type == APR_META_ARRAY && levels > 0;
    if (more)
        APR_TRY(apr_walk_in(&w, m[PARTS].value.text, 0, '[', e));
    while (more) {
        struct apr_value inner;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(apr_json_checked(&f->scratch->arena, item.value, 0, &inner, e));
        APR_TRY(find(f, &inner, levels - 1, e));
    }
    return APR_OK;
}

/* DeepSeek's first tokenizer lists letters one by one; what it does beside them tells. */
static bool is_deepseek_llm(const char *does)
{
    static const char before[] = SPLIT(LINE_END);
    return strncmp(does, before, sizeof before - 1) == 0 && strstr(does, SPLIT("\\s+$")) != NULL && strstr(does, "A-Za-z") != NULL;
}

/* What the family calls it. */
static const char *name_in_family(const struct apr_pretoken_facts *facts, const char *does)
{
    for (size_t k = 0; k < facts->nfamily; k++)
        for (size_t i = 0; i < APR_LENGTH(kinds); i++)
            if (apr_bytes_is(facts->family[k], kinds[i].name) && strcmp(kinds[i].does, does) == 0 && shows(facts, kinds[i].sign[1]))
                return kinds[i].name;
    return NULL;
}

static const char *name_of(const struct apr_pretoken_facts *facts, const char *does)
{
    const char *const name = name_in_family(facts, does);
    if (name != NULL)
        return name;
    for (size_t i = 0; i < APR_LENGTH(kinds); i++)
        if (strcmp(kinds[i].does, does) == 0 && shows(facts, kinds[i].sign[0]) && shows(facts, kinds[i].sign[1]))
            return kinds[i].name;
    return is_deepseek_llm(does) ? "deepseek-llm" : NULL;
}

enum apr_code apr_pretoken_name(const struct apr_pretoken_facts *facts, struct apr_vocabulary *scratch, const char **name,
                                struct apr_error *e)
{
    const struct apr_value whole = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = facts->pre_tokenizer };
    struct apr_text_made m;
    struct apr_bytes does;
    *name = NULL;
    if (facts->pre_tokenizer.n == 0) {
        *name = facts->pre_tokenizer.at == NULL ? name_of(facts, BY_WORD) : NULL; /* files of the time of GPT-2 */
        return APR_OK;
    }
    APR_TRY(apr_text_begin(&m, e));
    struct finding f = { scratch, m.out.to };
    const enum apr_code code = find(&f, &whole, DEPTH, e);
    struct apr_error why;
    const enum apr_code made = apr_text_end(&m, &scratch->arena, &does, &why);
    if (code != APR_OK)
        return code;
    if (made != APR_OK)
        return apr_no_memory(e);
    *name = name_of(facts, (const char *)does.at);
    return APR_OK;
}

/* ---- the way back ---------------------------------------------------------------------------------------------------- */

const char *apr_pretoken_known(struct apr_bytes name)
{
    for (size_t i = 0; i < APR_LENGTH(kinds); i++)
        if (apr_bytes_is(name, kinds[i].name))
            return kinds[i].name;
    return NULL;
}

static const struct kind *kind_called(const char *name)
{
    const struct kind *k = kinds;
    while (k->name != name)
        k++;
    return k;
}

bool apr_pretoken_composes(const char *name) { return kind_called(name)->nfc; }

bool apr_pretoken_ignores_merges(const char *name) { return kind_called(name)->ignores_merges; }

static bool begins(const char *part, const char *word) { return strncmp(part, word, strlen(word)) == 0; }

/* One part, n bytes long. */
static void write_part(struct apr_out *out, const char *part, size_t n)
{
    const size_t colon = strcspn(part, ":+" END);
    apr_out_open(out, NULL, '{');
    apr_out_bytes(out, "type", (struct apr_bytes){ (const unsigned char *)part, colon });
    if (begins(part, "ByteLevel")) {
        apr_out_bool(out, "add_prefix_space", false);
        apr_out_bool(out, "trim_offsets", true);
        apr_out_bool(out, "use_regex", begins(part, BY_WORD));
    } else if (begins(part, "Digits")) {
        apr_out_bool(out, "individual_digits", begins(part, DIGITS));
    } else if (begins(part, "Punctuation")) {
        apr_out_bytes(out, "behavior", (struct apr_bytes){ (const unsigned char *)part + colon + 1, n - colon - 1 });
    } else {
        apr_out_open(out, "pattern", '{');
        apr_out_bytes(out, "Regex", (struct apr_bytes){ (const unsigned char *)part + colon + 1, n - colon - 1 });
        apr_out_close(out, '}');
        apr_out_text(out, "behavior", "Isolated");
        apr_out_bool(out, "invert", false);
    }
    apr_out_close(out, '}');
}

void apr_pretoken_write(struct apr_out *out, const char *name)
{
    const char *part = kind_called(name)->does;
    const bool several = part[strcspn(part, END) + 1] != 0;
    if (several) {
        apr_out_open(out, NULL, '{');
        apr_out_text(out, "type", "Sequence");
        apr_out_open(out, "pretokenizers", '[');
    }
    for (size_t n; *part != 0; part += n + 1) {
        n = strcspn(part, END);
        write_part(out, part, n);
    }
    if (several) {
        apr_out_close(out, ']');
        apr_out_close(out, '}');
    }
}
