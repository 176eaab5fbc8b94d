/* Any bytes as the JSON of an apr-inspect --partition run: read, then judged as --merge does with all that there are. The Makefile links the
 * tool's objects under names of their own, as apr-diff has a read_share too. */
#include "fuzz.h"

#define read_share inspect_read_share
#define share_rows inspect_share_rows

#include "../../tools/apr-inspect/share.h"

#include "base/arena.h"
#include "model/findings.h"

struct judged {
    const struct share *share;
    struct moments     *moments;
    size_t              n, room;
    struct apr_arena   *names;
};

static enum apr_code touch_row(void *ctx, const struct shared_row *row, struct apr_error *e)
{
    (void)e;
    fuzz_expect(row->line.name.at != NULL && row->line.dtype != NULL && row->line.ndim <= APR_MAX_DIMS && row->text.n > 0);
    for (size_t i = 0; i < json_array_size(row->parts); i++)
        fuzz_expect(listed_part(json_array_get(row->parts, i)).dtype != NULL);
    ++*(uint64_t *)ctx;
    return APR_OK;
}

static enum apr_code take_moments(void *ctx, const struct moments *m, struct apr_error *e)
{
    struct judged *const j = ctx;
    struct moments *const more = apr_grown(j->moments, &j->room, j->n, 16, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    j->moments = more;
    more[j->n] = *m;
    more[j->n].name = apr_arena_copy(&j->names, m->name);
    return more[j->n++].name.at == NULL ? apr_no_memory(e) : APR_OK;
}

static enum apr_code middle_of(void *ctx, const struct role *r, double *middle, struct apr_error *e)
{
    static uint64_t of[CLASSES];
    memset(of, 0, sizeof of);
    const enum apr_code code = share_classes(((const struct judged *)ctx)->share, r->name, of, e);
    if (code == APR_OK)
        *middle = middle_of_classes(of);
    return code;
}

/* What was checked when it was opened is so when it is read again. */
static void judge(const struct share *share)
{
    const json_t *const partition = json_object_get(share->base.top, "partition");
    struct findings findings = { 0 }, degenerate = { 0 }, round_trip = { 0 };
    struct judged x = { .share = share };
    struct apr_error e;
    uint64_t rows = 0;
    fuzz_expect(inspect_share_rows(share, touch_row, &rows, &e) == APR_OK && rows == share->ntensor);
    fuzz_expect(share_findings(share, APR_STAGE_CONTAINER, APR_STAGE_ROUND_TRIP, &findings, &x.names, &e) == APR_OK);
    fuzz_expect(share_moments(share, take_moments, &x, &e) == APR_OK);
    if (share->check) {
        const struct judging j = { .findings = &findings, .moments = x.moments, .n = x.n, .middle = middle_of, .ctx = &x,
                                   .held = apr_member_real(partition, "held"), .type = apr_member_text(partition, "held_by") };
        const enum apr_code code = judge_together(&j, &degenerate, &round_trip, &e);
        fuzz_expect(code == APR_OK || e.text[0] != 0);
    }
    free(x.moments);
    apr_arena_free(&x.names);
    free_findings(&findings);
    free_findings(&degenerate);
    free_findings(&round_trip);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct share share;
    struct apr_error e;
    const enum apr_code code = inspect_read_share(&share, fuzz_file(bytes, n), &run, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
    } else {
        fuzz_expect(share.base.number >= 1 && share.base.number <= share.base.of);
        judge(&share);
    }
    apr_share_close(&share.base);
    return 0;
}
