#include <stdlib.h>
#include <string.h>

#include "diff.h"
#include "model.h"

/* GGUF names and what HuggingFace checkpoints and APR files call the same. A leading "blk.N." stands for "model.layers.N.". */
static const char *const whole_names[][2] = {
    { "token_embd.weight", "model.embed_tokens.weight" },
    { "output.weight", "lm_head.weight" },
    { "output_norm.weight", "model.norm.weight" },
};
static const char *const layer_names[][2] = {
    { "attn_q.", "self_attn.q_proj." },   { "attn_k.", "self_attn.k_proj." },       { "attn_v.", "self_attn.v_proj." },
    { "attn_output.", "self_attn.o_proj." }, { "attn_norm.", "input_layernorm." },   { "ffn_norm.", "post_attention_layernorm." },
    { "ffn_gate.", "mlp.gate_proj." },    { "ffn_up.", "mlp.up_proj." },            { "ffn_down.", "mlp.down_proj." },
};
static const char *const layer_prefix[2] = { "blk.", "model.layers." };

static bool begins(struct apr_bytes s, const char *with)
{
    const size_t n = strlen(with);
    return s.n >= n && memcmp(s.at, with, n) == 0;
}

/* The name in the other dialect, into buffer; false when there is none. `from` is the dialect of name: 0 GGUF, 1 HuggingFace. */
static bool translate(struct apr_bytes name, int from, char *buffer, size_t room, struct apr_bytes *out)
{
    int n = -1;
    for (size_t i = 0; i < APR_LENGTH(whole_names); i++)
        if (apr_bytes_equal(name, apr_text(whole_names[i][from]))) {
            *out = apr_text(whole_names[i][!from]);
            return true;
        }
    if (!begins(name, layer_prefix[from]))
        return false;
    const char *layer = (const char *)name.at + strlen(layer_prefix[from]), *end = (const char *)name.at + name.n, *digits = layer;
    while (layer < end && *layer >= '0' && *layer <= '9')
        layer++;
    if (layer == digits || layer == end || *layer != '.')
        return false;
    const struct apr_bytes rest = { (const unsigned char *)layer + 1, (size_t)(end - layer - 1) };
    for (size_t i = 0; n < 0 && i < APR_LENGTH(layer_names); i++)
        if (begins(rest, layer_names[i][from])) {
            const size_t skip = strlen(layer_names[i][from]);
            n = snprintf(buffer, room, "%s%.*s.%s%.*s", layer_prefix[!from], (int)(layer - digits), digits, layer_names[i][!from],
                         (int)(rest.n - skip), (const char *)rest.at + skip);
        }
    if (n < 0 || (size_t)n >= room)
        return false;
    *out = (struct apr_bytes){ (const unsigned char *)buffer, (size_t)n };
    return true;
}

static const struct apr_tensor *twin_of(const struct apr_tensor *t, const struct apr_model *other)
{
    char buffer[256];
    struct apr_bytes name;
    const struct apr_tensor *found = apr_model_find(other, t->name);
    for (int from = 0; found == NULL && from < 2; from++)
        if (translate(t->name, from, buffer, sizeof buffer, &name))
            found = apr_model_find(other, name);
    return found;
}

bool is_generated(struct apr_bytes name) { return apr_bytes_equal(name, apr_text("rope_freqs.weight")); }

bool is_wanted(const struct options *o, struct apr_bytes name)
{
    bool yes = o->nfilter == 0;
    for (size_t i = 0; !yes && i < o->nfilter; i++)
        yes = apr_pattern_matches(o->filter[i], name);
    return yes;
}

static int by_name(const void *a, const void *b) { return apr_bytes_compare(*(const struct apr_bytes *)a, *(const struct apr_bytes *)b); }

static int by_name_in_a(const void *a, const void *b)
{
    return apr_bytes_compare(((const struct pair *)a)->a->name, ((const struct pair *)b)->a->name);
}

/* Keeps the share of this part: pair p goes where the bytes before it fall when all of them are cut into nparts equal lengths. */
static void keep_part(struct match *m, uint64_t part, uint64_t nparts)
{
    uint64_t total = 0, before = 0;
    size_t kept = 0;
    for (size_t i = 0; i < m->npair; i++)
        total += m->pair[i].a->data.n + m->pair[i].b->data.n + 1;
    for (size_t i = 0; i < m->npair; i++) {
        const uint64_t share = (uint64_t)((unsigned __int128)before * nparts / total) + 1;
        before += m->pair[i].a->data.n + m->pair[i].b->data.n + 1;
        if (share == part)
            m->pair[kept++] = m->pair[i];
    }
    m->npair = kept;
}

enum apr_code match_models(struct match *m, const struct options *o, const struct apr_model *a, const struct apr_model *b,
                           struct apr_error *e)
{
    bool *taken = calloc(b->ntensor + 1, sizeof *taken);
    *m = (struct match){ .pair = malloc((a->ntensor + 1) * sizeof *m->pair),
                         .only_a = malloc((a->ntensor + 1) * sizeof *m->only_a),
                         .only_b = malloc((b->ntensor + 1) * sizeof *m->only_b) };
    if (taken == NULL || m->pair == NULL || m->only_a == NULL || m->only_b == NULL) {
        free(taken);
        free_match(m);
        return apr_no_memory(e);
    }
    for (size_t i = 0; i < a->ntensor; i++) {
        const struct apr_tensor *t = &a->tensor[i], *twin = twin_of(t, b);
        if (twin != NULL)
            taken[twin - b->tensor] = true;
        if (!is_wanted(o, t->name) && (twin == NULL || !is_wanted(o, twin->name)))
            continue;
        if (twin != NULL)
            m->pair[m->npair++] = (struct pair){ t, twin };
        else
            m->only_a[m->nonly_a++] = t->name;
    }
    for (size_t i = 0; i < b->ntensor; i++)
        if (!taken[i] && is_wanted(o, b->tensor[i].name))
            m->only_b[m->nonly_b++] = b->tensor[i].name;
    free(taken);
    if (o->nfilter > 0 && m->npair + m->nonly_a + m->nonly_b == 0) {
        free_match(m);
        return apr_fail(e, APR_EARG, APR_NOWHERE, "no tensor matches the filter");
    }
    qsort(m->pair, m->npair, sizeof *m->pair, by_name_in_a);
    qsort(m->only_a, m->nonly_a, sizeof *m->only_a, by_name);
    qsort(m->only_b, m->nonly_b, sizeof *m->only_a, by_name);
    if (o->limit > 0 && m->npair > o->limit)
        m->npair = (size_t)o->limit;
    if (o->nparts > 0)
        keep_part(m, o->part, o->nparts);
    return APR_OK;
}

void free_match(struct match *m)
{
    free(m->pair);
    free(m->only_a);
    free(m->only_b);
    *m = (struct match){ 0 };
}
