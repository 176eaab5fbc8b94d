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
    printf("%s%-7s%s %2u %s  ", apr_style(colour, severities[f->severity].style), severities[f->severity].word,
           apr_style(colour, APR_PLAIN), f->stage, f->code);
    if (n >= MANY)
        printf("%zu of these, the first: ", n);
    puts(f->text);
}

static void print_verdict(const struct options *o, size_t faults, size_t warnings)
{
    const bool colour = o->cli.colour;
    printf("%s%s%s", apr_style(colour, faults > 0 ? APR_RED : APR_GREEN), faults > 0 ? "not sound" : "sound", apr_style(colour, APR_PLAIN));
    if (faults > 0)
        printf(", %zu error%s", faults, faults == 1 ? "" : "s");
    if (warnings > 0)
        printf(", %zu warning%s", warnings, warnings == 1 ? "" : "s");
    puts(o->check == CHECK_FAST ? "  (stages 1 to 6; no tensor data was read)" : "");
}

/* A line for each, or for many that are alike; how many of each severity there are is added to n. */
static void print_each(const struct options *o, const struct findings *f, size_t n[APR_FAULT + 1])
{
    struct alike of[CODES][APR_FAULT + 1] = { 0 };
    for (size_t i = 0; i < f->n; i++)
        alike_of(of, &f->at[i])->n++;
    for (size_t i = 0; i < f->n; i++) {
        struct alike *a = alike_of(of, &f->at[i]);
        if (a->met++ == 0 || a->n < MANY)
            print_finding(&f->at[i], a->n, o->cli.colour);
        n[f->at[i].severity]++;
    }
}

int print_findings(const struct options *o, const struct findings *f)
{
    size_t n[APR_FAULT + 1] = { 0 };
    print_each(o, f, n);
    print_verdict(o, n[APR_FAULT], n[APR_WARNING]);
    return n[APR_FAULT] > 0 ? APR_EXIT_NO : APR_EXIT_YES;
}

int show_findings(struct inspection *x)
{
    struct apr_error e;
    size_t n[APR_FAULT + 1] = { 0 };
    if (check_model(x, &e) == APR_OK)
        return print_findings(x->o, &x->findings);
    print_each(x->o, &x->findings, n);
    apr_error_in(&e, x->path);
    return apr_cli_fail(&x->o->cli, &e);
}
