#include "family/spell.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "ui/report.h"

static const char *spell(double v, bool single, char text[APR_SPELL_ROOM])
{
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), users = uselocale(plain);
    if (v == floor(v) && fabs(v) < 1e15) {
        snprintf(text, APR_SPELL_ROOM, "%.1f", v);
    } else {
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(text, APR_SPELL_ROOM, "%.*g", digits, v);
            if (single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v)
                break;
        }
        if (strpbrk(text, ".e") == NULL)
            strcat(text, ".0");
    }
    uselocale(users);
    if (plain)
        freelocale(plain);
    return text;
}

const char *apr_spell_f32(double v, char text[APR_SPELL_ROOM]) { return spell(v, true, text); }
const char *apr_spell_f64(double v, char text[APR_SPELL_ROOM]) { return spell(v, false, text); }

enum apr_code apr_spelled(struct apr_arena **a, FILE *to, char **text, const size_t *n, struct apr_bytes *out, struct apr_error *e)
{
    const bool failed = ferror(to) != 0;
    *out = (struct apr_bytes){ 0 };
    if (fclose(to) == 0 && !failed)
        *out = apr_arena_copy(a, (struct apr_bytes){ (const unsigned char *)*text, *n });
    free(*text);
    *text = NULL;
    return out->at == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code apr_spell_value(struct apr_arena **a, const struct apr_value *v, struct apr_bytes *json, struct apr_error *e)
{
    const bool real = (v->type == APR_META_F32 || v->type == APR_META_F64) && isfinite(v->f) && !(v->encoding == APR_JSON && v->text.n > 0);
    char number[APR_SPELL_ROOM], *text = NULL;
    size_t n = 0;
    FILE *const to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(e);
    struct apr_out out = { .to = to };
    if (real)
        fputs(v->type == APR_META_F32 ? apr_spell_f32(v->f, number) : apr_spell_f64(v->f, number), to);
    else
        apr_out_value(&out, NULL, v, 0);
    return apr_spelled(a, to, &text, &n, json, e);
}

enum apr_code apr_spell_string(struct apr_arena **a, struct apr_bytes text, struct apr_bytes *json, struct apr_error *e)
{
    return apr_spell_value(a, &(struct apr_value){ .type = APR_META_STRING, .text = text }, json, e);
}
