/* --check as text: a line for each finding, and the verdict. */
#include <stdio.h>
#include <string.h>

#include "inspect.h"
#include "model/findings.h"

static const struct {
    const char    *word;
    enum apr_style style;
} severities[] = { [APR_INFO] = { "info", APR_DIM }, [APR_WARNING] = { "warning", APR_YELLOW }, [APR_FAULT] = { "error", APR_RED } };

#define MANY  20  /* findings of one code and severity that share a line */
#define CODES 256 /* more than there are */

/* Of each code and severity: how many there are, and how many of them were met on the way through. */
struct alike {
    size_t n, met;
};

static struct alike *alike_of(struct alike of[CODES][APR_FAULT + 1], const struct finding *f)
{
    return &of[apr_finding_of(f->code) - apr_findings][f->severity];
}

static void print_finding(const struct finding *f, size_t n, bool colour)
{
    printf("%s%-7s%s %2u %s  ", apr_style(colour, severities[f->severity].style), severities[f->severity].word, apr_style(colour, APR_PLAIN),
           f->stage, f->code);
    if (n >= MANY)
        printf("%zu of these, the first: ", n);
    puts(f->text);
}

static void print_verdict(const struct inspection *x, size_t faults, size_t warnings)
{
    const bool colour = x->o->cli.colour;
    printf("%s%s%s", apr_style(colour, faults > 0 ? APR_RED : APR_GREEN), faults > 0 ? "not sound" : "sound", apr_style(colour, APR_PLAIN));
    if (faults > 0)
        printf(", %zu error%s", faults, faults == 1 ? "" : "s");
    if (warnings > 0)
        printf(", %zu warning%s", warnings, warnings == 1 ? "" : "s");
    puts(x->o->check == CHECK_FAST ? "  (stages 1 to 6; no tensor data was read)" : "");
}

int show_findings(struct inspection *x)
{
    struct apr_error e;
    size_t n[APR_FAULT + 1] = { 0 };
    struct alike of[CODES][APR_FAULT + 1] = { 0 };
    const enum apr_code code = check_model(x, &e);
    for (size_t i = 0; i < x->findings.n; i++)
        alike_of(of, &x->findings.at[i])->n++;
    for (size_t i = 0; i < x->findings.n; i++) {
        struct alike *a = alike_of(of, &x->findings.at[i]);
        if (a->met++ == 0 || a->n < MANY)
            print_finding(&x->findings.at[i], a->n, x->o->cli.colour);
        n[x->findings.at[i].severity]++;
    }
    if (code != APR_OK) {
        apr_error_in(&e, x->path);
        return apr_cli_fail(&x->o->cli, &e);
    }
    print_verdict(x, n[APR_FAULT], n[APR_WARNING]);
    return n[APR_FAULT] > 0 ? APR_EXIT_NO : APR_EXIT_YES;
}
