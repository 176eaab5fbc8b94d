/* All contracts, of which only those that are needed are parsed. */
#include "family/family.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/format.h"

#define MOST_LOOKED_AT 1000 /* tensors of a model, until a contract is parsed */

/* Made from families/ at build time (embed.sh); a row without a name ends it. Words of the index stand between blanks.
 *   detect  as enum apr_detect
 *   words   all that may be part of a tensor's name, and more
 *   globs   of each one that is dropped its longest word, or "*" */
extern const struct embedded {
    const char *file, *text;
    const char *detect[APR_NDETECT], *words, *globs;
} apr_embedded_families[];

struct apr_families {
    struct apr_family **family;   /* the user's, then the embedded, NULL until wanted */
    size_t              nown, n;
    struct apr_source **source;   /* of the user's */
};

enum apr_code apr_families_new(struct apr_families **all, struct apr_error *e)
{
    size_t n = 0;
    while (apr_embedded_families[n].file != NULL)
        n++;
    *all = calloc(1, sizeof **all);
    if (*all != NULL)
        (*all)->family = calloc(n + 1, sizeof *(*all)->family);
    if (*all == NULL || (*all)->family == NULL) {
        free(*all);
        *all = NULL;
        return apr_no_memory(e);
    }
    (*all)->n = n;
    return APR_OK;
}

void apr_families_free(struct apr_families *all)
{
    if (all == NULL)
        return;
    for (size_t i = 0; i < all->n; i++)
        apr_family_free(all->family[i]);
    for (size_t i = 0; i < all->nown; i++)
        apr_source_close(all->source[i]);
    free(all->family);
    free(all->source);
    free(all);
}

enum apr_code apr_families_add(struct apr_families *all, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *s;
    struct apr_family *f;
    APR_TRY(apr_source_open(&s, path, r, e));
    struct apr_family **family = realloc(all->family, (all->n + 2) * sizeof *family);
    if (family != NULL)
        all->family = family;
    struct apr_source **source = family == NULL ? NULL : realloc(all->source, (all->nown + 1) * sizeof *source);
    if (source != NULL)
        all->source = source;
    enum apr_code code = source == NULL ? apr_no_memory(e) : apr_family_parse(&f, s->path, s->map, e);
    if (code == APR_OK && (code = apr_source_intact(s, e)) != APR_OK)
        apr_family_free(f);
    if (code != APR_OK)
        return apr_source_end(s, code, e);
    memmove(all->family + all->nown + 1, all->family + all->nown, (all->n - all->nown) * sizeof *all->family);
    all->family[all->nown] = f;
    all->source[all->nown++] = s;
    all->n++;
    return APR_OK;
}

enum apr_code apr_families_get(struct apr_families *all, size_t i, const struct apr_family **f, struct apr_error *e)
{
    *f = NULL;
    if (i >= all->n)
        return APR_OK;
    const struct embedded *const row = i < all->nown ? NULL : &apr_embedded_families[i - all->nown];
    if (all->family[i] == NULL)
        APR_TRY(apr_family_parse(&all->family[i], row->file, apr_text(row->text), e));
    *f = all->family[i];
    return APR_OK;
}

/* ---- the index ------------------------------------------------------------------------------------------------------ */

static const struct embedded *embedded(const struct apr_families *all, size_t i)
{
    return i < all->nown ? NULL : &apr_embedded_families[i - all->nown];
}

static bool lists(const char *list, struct apr_bytes word)
{
    const char *const end = list + strlen(list);
    for (const char *at = list; word.n > 0 && (at = memmem(at, (size_t)(end - at), word.at, word.n)) != NULL; at++)
        if (at > list && at[-1] == ' ' && at[word.n] == ' ' && memchr(word.at, ' ', word.n) == NULL)
            return true;
    return false;
}

struct apr_bytes apr_families_name(const struct apr_families *all, size_t i)
{
    const struct embedded *const row = i < all->n ? embedded(all, i) : NULL;
    if (row == NULL)
        return i < all->n ? all->family[i]->name : (struct apr_bytes){ 0 };
    const char *const slash = strrchr(row->file, '/'), *const name = slash == NULL ? row->file : slash + 1;
    return (struct apr_bytes){ (const unsigned char *)name, strcspn(name, ".") };
}

/* Could the part be one of a name of the contract's? Numbers stand for holes, and what no word of the index can be is not judged. */
static bool is_word(const char *words, struct apr_bytes part)
{
    static const char between[] = " \t,\"'{}[]():*+\\\n";
    bool number = true;
    for (size_t i = 0; i < part.n; i++) {
        if (memchr(between, part.at[i], sizeof between) != NULL)
            return true;
        number &= part.at[i] >= '0' && part.at[i] <= '9';
    }
    return number || lists(words, part);
}

static size_t part_before(struct apr_bytes name, size_t end)
{
    while (end > 0 && name.at[end - 1] != '.' && name.at[end - 1] != '/')
        end--;
    return end;
}

/* Of a name the last two parts are what no prefix changes. */
static bool may_know(const struct embedded *row, struct apr_bytes name)
{
    const size_t last = part_before(name, name.n), before = last == 0 ? 0 : part_before(name, last - 1);
    return is_word(row->words, (struct apr_bytes){ name.at + last, name.n - last }) &&
           (last == 0 || is_word(row->words, (struct apr_bytes){ name.at + before, last - 1 - before }));
}

static bool may_drop(const struct embedded *row, struct apr_bytes name)
{
    for (const char *at = row->globs + strspn(row->globs, " "); *at != 0; at += strspn(at, " ")) {
        const size_t n = strcspn(at, " ");
        if (*at == '*' || memmem(name.at, name.n, at, n) != NULL)
            return true;
        at += n;
    }
    return false;
}

bool apr_families_may_fit(const struct apr_families *all, size_t i, const struct apr_model *m)
{
    const struct embedded *const row = i < all->n ? embedded(all, i) : NULL;
    bool may = true;
    for (size_t t = 0; row != NULL && may && t < m->ntensor && t < MOST_LOOKED_AT; t++)
        may = may_know(row, m->tensor[t].name) || (!m->format->own_names && may_drop(row, m->tensor[t].name));
    return may;
}

/* ---- words ---------------------------------------------------------------------------------------------------------- */

static bool holds(const struct apr_families *all, size_t i, enum apr_detect detect, struct apr_bytes word)
{
    const struct embedded *const row = embedded(all, i);
    return row == NULL ? apr_words_hold(&all->family[i]->detect[detect], word) : lists(row->detect[detect], word);
}

static bool is_doubtful(const struct apr_families *all, size_t i)
{
    const struct embedded *const row = embedded(all, i);
    return row == NULL ? all->family[i]->detect[APR_DETECT_WITHOUT].n > 0 : row->detect[APR_DETECT_WITHOUT][0] != 0;
}

/* Has the model tensors, and none of those that the family is without? */
static bool lacks_them(const struct apr_families *all, size_t i, const struct apr_model *m)
{
    for (size_t t = 0; m != NULL && t < m->ntensor; t++)
        if (holds(all, i, APR_DETECT_WITHOUT, m->tensor[t].name))
            return false;
    return m != NULL && m->ntensor > 0;
}

size_t apr_families_seek(const struct apr_families *all, enum apr_detect detect, struct apr_bytes word, const struct apr_model *m)
{
    size_t found = APR_NO_FAMILY;
    for (size_t i = 0; i < all->n && (found == APR_NO_FAMILY || (detect == APR_DETECT_GGUF && i >= all->nown)); i++) {
        const bool doubtful = detect == APR_DETECT_GGUF && is_doubtful(all, i);
        if (!holds(all, i, detect, word) || (doubtful ? !lacks_them(all, i, m) : found != APR_NO_FAMILY))
            continue;
        found = i;
        if (doubtful || i < all->nown)
            break;
    }
    return found;
}
