/* The overview: what a model is, on one screen, from its headers alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "check.h"
#include "files/source.h"
#include "model/format.h"
#include "model/meta.h"
#include "values/dtype.h"

#define LABEL     16 /* columns of a label */
#define BAR       20 /* columns of a full bar */
#define MOST_ROWS 10 /* dtypes, and problems, shown */

const char *spell_count(uint64_t n, char buffer[32])
{
    static const char word[] = " kMBTQQ"; /* thousand, million, billion, trillion; nothing is larger */
    double v = (double)n;
    unsigned w = 0;
    for (; v >= 999.5; w++)
        v /= 1000;
    if (w == 0)
        snprintf(buffer, 32, "%u", (unsigned)n);
    else
        snprintf(buffer, 32, "%.*f%c", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, word[w]);
    return buffer;
}

/* ---- tables --------------------------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    uint64_t    tensors, elements, bytes;
};

static void add_to(struct row *r, const struct apr_tensor *t)
{
    r->tensors++;
    r->elements += t->count;
    r->bytes += stored_bytes(t);
}

static void print_table(const struct inspection *x, const char *title, const struct row *row, size_t n, uint64_t all)
{
    const bool colour = x->o->cli.colour;
    char elements[32], bytes[32];
    printf("\n%s%-*s%10s %12s %10s%s\n", apr_style(colour, APR_BOLD), LABEL, title, "tensors", "parameters", "bytes",
           apr_style(colour, APR_PLAIN));
    for (size_t i = 0; i < n; i++) {
        if (row[i].tensors == 0)
            continue;
        const double share = all == 0 ? 0 : (double)row[i].bytes / (double)all;
        const int bar = (int)(share * BAR + 0.5);
        printf("%-*s%10llu %12s %10s %5.1f %%%s%s", LABEL, row[i].name, (unsigned long long)row[i].tensors,
               spell_count(row[i].elements, elements), apr_spell_size(row[i].bytes, bytes), 100 * share, bar > 0 ? "  " : "",
               apr_style(colour, APR_DIM));
        for (int k = 0; k < bar; k++)
            fputs("▪", stdout);
        printf("%s\n", apr_style(colour, APR_PLAIN));
    }
}

static int by_bytes(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return strcmp(x->name, y->name);
}

static void print_dtypes(const struct inspection *x, uint64_t all)
{
    struct row row[APR_NDTYPES] = { 0 }, rest = { .name = "others" };
    size_t n = 0;
    for (size_t i = 0; i < x->m->ntensor; i++)
        add_to(&row[apr_dtype_id(stored_dtype(&x->m->tensor[i]))], &x->m->tensor[i]);
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (row[i].tensors > 0) {
            row[i].name = apr_dtypes[i].name;
            row[n++] = row[i];
        }
    qsort(row, n, sizeof *row, by_bytes);
    for (; n > MOST_ROWS; n--) {
        rest.tensors += row[n - 1].tensors;
        rest.elements += row[n - 1].elements;
        rest.bytes += row[n - 1].bytes;
    }
    if (rest.tensors > 0)
        row[n++] = rest;
    print_table(x, "dtype", row, n, all);
}

/* ---- groups of layers ----------------------------------------------------------------------------------------------- */

enum group { EMBEDDING, ATTENTION, FEED_FORWARD, STATE_SPACE, NORMS, HEAD, OTHER, NGROUPS };

/* Is a number one of the name's parts, "blk.3.attn_q"? */
static bool is_in_layer(struct apr_bytes name)
{
    for (size_t i = 0, begin = 0; i <= name.n; i++) {
        if (i < name.n && name.at[i] >= '0' && name.at[i] <= '9')
            continue;
        if (i > begin && (i == name.n || name.at[i] == '.'))
            return true;
        begin = i + 1;
        while (i < name.n && name.at[i] != '.')
            begin = ++i + 1;
    }
    return false;
}

/* By words that the names of all dialects share; the first that occurs decides. */
static enum group group_of(struct apr_bytes name)
{
    static const struct {
        const char *word;
        enum group  inside, outside; /* a layer */
    } words[] = {
        { "norm", NORMS, NORMS }, { "Norm", NORMS, NORMS }, { "ln_", NORMS, NORMS }, { "embed", EMBEDDING, EMBEDDING },
        { "embd", EMBEDDING, EMBEDDING }, { "wte", EMBEDDING, EMBEDDING }, { "wpe", EMBEDDING, EMBEDDING },
        { "token_types", EMBEDDING, EMBEDDING }, { "ssm", STATE_SPACE, OTHER }, { "mixer", STATE_SPACE, OTHER },
        { "attn", ATTENTION, OTHER }, { "attention", ATTENTION, OTHER }, { "ffn", FEED_FORWARD, OTHER }, { "mlp", FEED_FORWARD, OTHER },
        { "moe", FEED_FORWARD, OTHER }, { "expert", FEED_FORWARD, OTHER }, { "intermediate", FEED_FORWARD, OTHER },
        { "output", FEED_FORWARD, HEAD }, { ".fc", FEED_FORWARD, HEAD }, { "lm_head", HEAD, HEAD }, { "classifier", OTHER, HEAD },
        { "score", OTHER, HEAD },
    };
    for (size_t i = 0; i < APR_LENGTH(words); i++)
        if (apr_bytes_have(name, words[i].word))
            return is_in_layer(name) ? words[i].inside : words[i].outside;
    return OTHER;
}

static void print_groups(const struct inspection *x, uint64_t all)
{
    struct row row[NGROUPS] = { { .name = "embedding" }, { .name = "attention" }, { .name = "feed-forward" }, { .name = "state space" },
                                { .name = "norms" }, { .name = "head" }, { .name = "other" } };
    for (size_t i = 0; i < x->m->ntensor; i++)
        add_to(&row[group_of(x->m->tensor[i].name)], &x->m->tensor[i]);
    print_table(x, "layers", row, NGROUPS, all);
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

/* One fact and where each container keeps it; a gguf key that begins with '.' stands behind the architecture. */
static const struct {
    const char *label, *gguf, *apr, *config[2];
} facts[] = {
    { "name", "general.name", "name", { "_name_or_path" } },
    { "layers", ".block_count", "num_layers", { "num_hidden_layers", "n_layer" } },
    { "hidden size", ".embedding_length", "hidden_size", { "hidden_size", "n_embd" } },
    { "feed-forward", ".feed_forward_length", "intermediate_size", { "intermediate_size", "n_inner" } },
    { "heads", ".attention.head_count", "num_heads", { "num_attention_heads", "n_head" } },
    { "key-value heads", ".attention.head_count_kv", "num_kv_heads", { "num_key_value_heads" } },
    { "experts", ".expert_count", "num_experts", { "num_local_experts", "num_experts" } },
    { "experts used", ".expert_used_count", "num_experts_per_tok", { "num_experts_per_tok" } },
    { "context length", ".context_length", "max_position_embeddings", { "max_position_embeddings", "n_positions" } },
    { "vocabulary", ".vocab_size", "vocab_size", { "vocab_size" } },
    { "rope base", ".rope.freq_base", "rope_theta", { "rope_theta", "rope_parameters.rope_theta" } },
    { "rope scaling", ".rope.scaling.type", "rope_scaling", { "rope_scaling.rope_type", "rope_parameters.rope_type" } },
    { "quantization", "general.file_type", "", { NULL } },
    { "tokenizer", "tokenizer.ggml.model", "tokenizer.model_type", { NULL } },
    { "license", "general.license", "license", { NULL } },
};

static bool find_fact(const struct inspection *x, size_t i, struct apr_value *v)
{
    const struct apr_bytes architecture = apr_meta_string(&x->m->meta, "general.architecture");
    char key[256];
    snprintf(key, sizeof key, "%.*s%s", *facts[i].gguf == '.' ? (int)apr_min(architecture.n, 128) : 0, (const char *)architecture.at,
             facts[i].gguf);
    const struct apr_value *found = apr_meta_find(&x->m->meta, key);
    if (found == NULL)
        found = apr_meta_find(&x->m->meta, facts[i].apr);
    if (found != NULL) {
        *v = *found;
        return v->type != APR_META_NULL;
    }
    *v = (struct apr_value){ .type = APR_META_F64 };
    for (size_t k = 0; k < 2 && facts[i].config[k] != NULL; k++) {
        const struct apr_bytes path = apr_text(facts[i].config[k]);
        if (apr_hf_config_number(x->config, path, &v->f))
            return true;
        v->type = apr_hf_config_string(x->config, path, &v->text) ? APR_META_STRING : APR_META_F64;
        if (v->type == APR_META_STRING)
            return true;
    }
    return false;
}

static void print_label(const struct inspection *x, const char *label)
{
    printf("%s%-*s%s", apr_style(x->o->cli.colour, APR_DIM), LABEL, label, apr_style(x->o->cli.colour, APR_PLAIN));
}

static void print_facts(const struct inspection *x)
{
    struct apr_value v;
    bool any = false;
    for (size_t i = 0; i < APR_LENGTH(facts); i++)
        if (find_fact(x, i, &v)) {
            if (!any)
                putchar('\n');
            any = true;
            print_label(x, facts[i].label);
            if (file_type_of(apr_text(facts[i].gguf), &v) != NULL)
                fputs(file_type_of(apr_text(facts[i].gguf), &v), stdout);
            else
                print_value(stdout, &v, 80 - LABEL);
            putchar('\n');
        }
}

/* ---- what looks wrong ----------------------------------------------------------------------------------------------- */

static void print_problem(const struct inspection *x, enum apr_severity severity, const char *code, const char *text)
{
    const bool colour = x->o->cli.colour;
    printf("%s%s%s %s: %s\n", apr_style(colour, severity == APR_FAULT ? APR_RED : APR_YELLOW), severity == APR_FAULT ? "error" : "warning",
           apr_style(colour, APR_PLAIN), code, text);
}

static void print_problems(const struct inspection *x)
{
    size_t shown = 0, n = 0;
    for (size_t i = 0; i < x->m->nnote; i++)
        n += x->m->note[i].severity != APR_INFO;
    if (n > 0 || x->config_error.code != APR_OK)
        putchar('\n');
    if (x->config_error.code != APR_OK)
        print_problem(x, APR_FAULT, "config.json", x->config_error.text);
    for (size_t i = 0; i < x->m->nnote && shown < MOST_ROWS; i++)
        if (x->m->note[i].severity != APR_INFO) {
            print_problem(x, x->m->note[i].severity, x->m->note[i].code, x->m->note[i].text);
            shown++;
        }
    if (n > shown)
        printf("and %zu more: --check\n", n - shown);
}

/* ---- the screen ----------------------------------------------------------------------------------------------------- */

/* 1344768 -> "1,344,768" */
static void print_grouped(uint64_t n)
{
    char digits[24];
    const int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            putchar(',');
        putchar(digits[i]);
    }
}

static void print_family(const struct inspection *x)
{
    const struct apr_bytes architecture = architecture_of(x);
    const enum apr_model_kind kind = x->kind;
    if (kind != APR_KIND_MODEL) {
        print_label(x, "kind");
        puts(apr_model_kind_text(kind));
    }
    if (kind != APR_KIND_MODEL && x->family_name.n == 0)
        return;
    print_label(x, "family");
    if (x->family_name.n > 0)
        apr_print_bytes(stdout, x->family_name);
    else
        printf("%snot known%s", apr_style(x->o->cli.colour, APR_YELLOW), apr_style(x->o->cli.colour, APR_PLAIN));
    if (architecture.n > 0 && !apr_bytes_equal(architecture, x->family_name)) {
        fputs("  (", stdout);
        print_value(stdout, &(struct apr_value){ .type = APR_META_STRING, .text = architecture }, 40);
        putchar(')');
    }
    putchar('\n');
}

int print_partial(const struct inspection *x)
{
    const struct apr_model *m = x->m;
    uint64_t whole = 0;
    char here[32], all[32];
    if (m->ncut == 0)
        return APR_EXIT_YES;
    for (size_t i = 0; i < m->ntensor; i++)
        whole += stored_bytes(&m->tensor[i]);
    printf("\n%zu of %zu tensors are whole, %s of %s; the first that is not: ", m->ntensor, m->ntensor + m->ncut,
           apr_spell_size(whole, here), apr_spell_size(whole + m->cut_bytes, all));
    apr_print_bytes(stdout, m->first_cut);
    putchar('\n');
    return APR_EXIT_NO;
}

int show_overview(struct inspection *x)
{
    struct row sum = { 0 };
    uint64_t files = 0;
    char buffer[32];
    for (size_t i = 0; i < x->m->ntensor; i++)
        add_to(&sum, &x->m->tensor[i]);
    sum.elements = 0;
    for (size_t i = 0; i < x->m->ntensor; i++)
        sum.elements += x->m->tensor[i].count;
    for (size_t i = 0; i < x->m->nfile; i++)
        files += x->m->file[i]->stored;
    print_label(x, "format");
    printf("%s%s%s\n", x->m->format->name, *version_of(x->m) ? " " : "", version_of(x->m));
    if (has_weights(x))
        print_family(x);
    print_label(x, "parameters");
    print_grouped(sum.elements);
    if (sum.elements >= 1000)
        printf("  (%s)", spell_count(sum.elements, buffer));
    putchar('\n');
    print_label(x, "tensors");
    print_grouped(sum.tensors);
    printf(", %s\n", apr_spell_size(sum.bytes, buffer));
    if (sum.elements > 0) {
        print_label(x, "bits per weight");
        printf("%.2f\n", 8 * (double)sum.bytes / (double)sum.elements);
    }
    print_label(x, "on disk");
    printf("%s", apr_spell_size(files, buffer));
    if (x->m->nfile > 1)
        printf(" in %zu files", x->m->nfile);
    putchar('\n');
    print_dtypes(x, sum.bytes);
    if (has_weights(x))
        print_groups(x, sum.bytes);
    print_facts(x);
    print_problems(x);
    return APR_EXIT_YES;
}
