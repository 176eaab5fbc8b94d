/* What was discovered, as JSON and as text. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "discover.h"
#include "family/chain.h"

#define ROOM 1024

/* The word of an order that needs no list, or NULL. */
static const char *word_of(const struct apr_transform *t)
{
    bool back = t->n[0] == 1 && t->norder > 2;
    for (unsigned i = 0; i < t->norder && back; i++)
        back = t->order[i] == t->norder - 1 - i;
    if (back)
        return t->op == APR_OP_ORDER ? "reverse" : "reverse_cols";
    return t->norder != 2 ? NULL : t->op == APR_OP_ORDER ? "swap_halves" : "swap_halves_cols";
}

/* "rope_permute(8)", "stack(4)+transpose" into text; NULL where nothing is done but to shapes. */
static const char *spell_steps(const struct finding *f, char text[ROOM])
{
    text[0] = 0;
    for (unsigned i = 0, n; i < f->nstep; i += n) {
        const struct apr_transform *const t = &f->step[i];
        const char *const word = t->norder > 0 && t->only == 0 ? word_of(t) : NULL;
        for (n = 1; i + n < f->nstep && f->step[i + n].only > 0; n++) {}
        if (word != NULL)
            snprintf(text + strlen(text), ROOM - strlen(text), "%s%s", text[0] == 0 ? "" : "+", word);
        else if (t->op != APR_OP_RESHAPE || t->only > 0)
            apr_chain_spell(t, n, APR_ALL_PARTS, true, text, ROOM);
    }
    return text[0] == 0 ? NULL : text;
}

static void write_items(struct apr_out *j, const char *key, struct item *const *list, size_t n)
{
    apr_out_open(j, key, '[');
    for (size_t i = 0; i < n; i++)
        apr_out_bytes(j, NULL, list[i]->t->name);
    apr_out_close(j, ']');
}

void write_discovery(struct apr_out *j, const struct discovery *d)
{
    char text[ROOM];
    apr_out_open(j, "discovered", '[');
    for (size_t i = 0; i < d->nfinding; i++) {
        const struct finding *const f = &d->finding[i];
        apr_out_open(j, NULL, '{');
        write_items(j, "names_a", f->flipped ? f->to : f->from, f->flipped ? f->nto : f->nfrom);
        write_items(j, "names_b", f->flipped ? f->from : f->to, f->flipped ? f->nfrom : f->nto);
        apr_out_text(j, "transform", spell_steps(f, text));
        apr_out_real(j, "cosine", f->cosine);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

/* The first of some names and how many more there are. */
static void print_items(struct item *const *list, size_t n)
{
    for (size_t i = 0; i < n && i < 3; i++) {
        fputs(i == 0 ? "" : ", ", stdout);
        apr_print_bytes(stdout, list[i]->t->name);
    }
    if (n > 3)
        printf(" and %zu more", n - 3);
}

void print_discovery(const struct discovery *d)
{
    char text[ROOM], cosine[32];
    putchar('\n');
    for (size_t i = 0; i < d->nfinding; i++) {
        const struct finding *const f = &d->finding[i];
        const char *const steps = spell_steps(f, text);
        fputs("found  ", stdout);
        print_items(f->flipped ? f->to : f->from, f->flipped ? f->nto : f->nfrom);
        fputs("  is  ", stdout);
        print_items(f->flipped ? f->from : f->to, f->flipped ? f->nfrom : f->nto);
        printf("%s%s  cosine %s\n", steps == NULL ? "" : "  by ", steps == NULL ? "" : steps, apr_spell_real(f->cosine, cosine));
    }
    printf("%zu found by value\n", d->nfinding);
}
