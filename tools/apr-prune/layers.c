/* Which layers go. */
#include <math.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "prune.h"

/* ---- how many there are --------------------------------------------------------------------------------------------- */

/* Is a layer of that role one of the model's row of layers, which a GGUF calls blk.0, blk.1 ...? An encoder beside a decoder is another. */
static bool is_in_row(const struct apr_role *role)
{
    static const char blk[] = "blk.{L}.";
    const struct apr_words *const names = &role->known[APR_GGUF];
    return names->n > 0 && names->word[0].n >= sizeof blk - 1 && memcmp(names->word[0].at, blk, sizeof blk - 1) == 0;
}

/* By the tensors. Layers that only predict further tokens stand behind the others and are counted with them in some formats. */
static enum apr_code count_layers(const struct pruning *p, uint32_t *n, struct apr_error *e)
{
    *n = 0;
    for (size_t i = 0; i < p->m->ntensor; i++) {
        struct apr_meaning s;
        if (!apr_binding_meaning(p->binding, &p->m->tensor[i], 0, &s) || !s.role->layered)
            continue;
        if (!is_in_row(s.role) || apr_bytes_have(s.role->known[APR_GGUF].word[0], ".nextn."))
            return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, p->m->tensor[i].name,
                                   " is of no plain row of layers, from which some could be taken");
        if (s.layer >= *n)
            *n = s.layer + 1;
    }
    return APR_OK;
}

static enum apr_code know_layers(struct pruning *p, struct apr_error *e)
{
    uint32_t n;
    double said;
    if (p->binding == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                        "what its tensors are for is not known, and so which are a layer's: --family NAME says whose it is like");
    APR_TRY(count_layers(p, &n, e));
    if (!apr_binding_number(p->binding, apr_text("block_count"), &said))
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "nothing in it says how many layers it has");
    if (said != n)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "it has tensors of %lu layers, and says that it has %.17g", (unsigned long)n,
                        said);
    p->nlayer = n;
    p->gone = calloc(n + 1, sizeof *p->gone);
    return p->gone == NULL ? apr_no_memory(e) : APR_OK;
}

/* ---- which of them -------------------------------------------------------------------------------------------------- */

static enum apr_code take_span(struct pruning *p, struct apr_error *e)
{
    const struct options *const o = p->o;
    if (o->drop_to > p->nlayer)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--drop-layers %s: the model has layers 0..%lu", o->drop_layers,
                        (unsigned long)p->nlayer);
    if (o->drop_from == 0 && o->drop_to == p->nlayer)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--drop-layers %s leaves no layer", o->drop_layers);
    for (uint64_t i = o->drop_from; i < o->drop_to; i++)
        p->gone[i] = true;
    return APR_OK;
}

/* Those that change least, never the first or the last; of equal ones the lower. */
static enum apr_code take_least(struct pruning *p, struct apr_error *e)
{
    const uint64_t between = p->nlayer > 2 ? p->nlayer - 2 : 0;
    if (p->o->drop_count > between)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--drop-count %llu: the model has %llu layers between its first and its last",
                        (unsigned long long)p->o->drop_count, (unsigned long long)between);
    APR_TRY(measure_influence(p, e));
    for (uint64_t k = 0; k < p->o->drop_count; k++) {
        uint32_t least = 0;
        for (uint32_t i = 1; i + 1 < p->nlayer; i++)
            if (!p->gone[i] && (least == 0 || p->influence[i] < p->influence[least]))
                least = i;
        p->gone[least] = true;
    }
    return APR_OK;
}

enum apr_code choose_layers(struct pruning *p, struct apr_error *e)
{
    APR_TRY(know_layers(p, e));
    APR_TRY(p->o->drop_layers != NULL ? take_span(p, e) : take_least(p, e));
    for (uint32_t i = 0; i < p->nlayer; i++)
        p->ngone += p->gone[i];
    return APR_OK;
}
