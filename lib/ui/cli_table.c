#include "ui/cli_table.h"

#include <string.h>

/* The short forms, which are those of common options. */
static const struct {
    char        letter;
    const char *name;
} shorts[] = { { 'h', "--help" }, { 'V', "--version" }, { 'q', "--quiet" }, { 'j', "--threads" } };

const struct apr_said apr_cli_environment[] = {
    { "TMPDIR", "where standard input, compressed and fetched models are spooled to, into files without a name; default: /tmp" },
    { "NO_COLOR", "set to anything: no colours, where --color does not ask for them" },
    { "TERM", "dumb: likewise" },
    { "COLUMNS", "how wide the terminal is, where it is not as it says" },
    { 0 },
};

const struct apr_said apr_cli_exits[] = {
    { "0", "done, or the same" },
    { "1", "an honest no: they differ, the check found faults" },
    { "2", "no answer: usage, input or output error, malformed file" },
    { 0 },
};

const struct apr_said apr_remote_environment[] = {
    { "HF_ENDPOINT", "where the hub of hf:// is; default: https://huggingface.co" },
    { "HF_TOKEN", "the token for it, sent there only; else that in the file of HF_TOKEN_PATH, or in $HF_HOME/token" },
    { "HF_HOME", "where the hub's own programs keep things; default: ~/.cache/huggingface" },
    { "XDG_CACHE_HOME", "the folder of caches; default: ~/.cache" },
    { "https_proxy", "and its like: as libcurl has them" },
    { 0 },
};

const struct apr_said apr_model_files[] = {
    { "*.safetensors, *.gguf, *.apr", "a model, told by its content; of a split one, any shard" },
    { "model.safetensors.index.json", "the index of a checkpoint in shards; a folder stands for what it holds" },
    { "config.json, tokenizer.json", "what a checkpoint says of itself, beside it" },
    { "-", "standard input" },
    { "http://, https://, hf://OWNER/NAME[@REVISION][/PATH]", "a model at an address" },
    { "$XDG_CACHE_HOME/apr-tools/", "headers of models at addresses, 256 MiB at most" },
    { 0 },
};

void apr_cli_table_of(struct apr_cli_table *t, struct apr_cli *c)
{
    *t = (struct apr_cli_table){ .c = c };
    const struct apr_option row[APR_NCOMMON] = {
        { "--json", APR_OPTION_FLAG, &c->json, NULL, "the answer as one JSON object" },
        { "--threads", APR_OPTION_COUNT, &c->threads, "N", "1 to 1024 (default: the CPUs this process may use); changes no result",
          .given = &t->threads_given },
        { "--isa", APR_OPTION_CHOICE, &c->isa, "auto|scalar|avx2|avx512|neon", "instructions to use; changes no result" },
        { "--quiet", APR_OPTION_FLAG, &c->quiet, NULL, "only the answer and errors" },
        { "--progress", APR_OPTION_CHOICE, &c->progress, "auto|always|never", "a line on standard error (auto: on a terminal)" },
        { "--color", APR_OPTION_CHOICE, &c->color, "auto|always|never", "colours (auto: on a terminal, unless NO_COLOR is set)" },
        { "--help", APR_OPTION_FLAG, &t->help, NULL, "this page" },
        { "--version", APR_OPTION_FLAG, &t->version, NULL, "the version" },
    };
    memcpy(t->common, row, sizeof row);
}

size_t apr_cli_count(const struct apr_cli_table *t) { return t->c->noption + APR_NCOMMON; }

const struct apr_option *apr_cli_at(const struct apr_cli_table *t, size_t i)
{
    return i < t->c->noption ? &t->c->option[i] : &t->common[i - t->c->noption];
}

size_t apr_cli_exactly(const struct apr_cli_table *t, const char *name, size_t n)
{
    size_t i = 0;
    while (i < apr_cli_count(t) && (strlen(apr_cli_at(t, i)->name) != n || memcmp(apr_cli_at(t, i)->name, name, n) != 0))
        i++;
    return i;
}

char apr_cli_letter(const struct apr_option *o)
{
    for (size_t k = 0; k < APR_LENGTH(shorts); k++)
        if (strcmp(shorts[k].name, o->name) == 0)
            return shorts[k].letter;
    return 0;
}

size_t apr_cli_of_letter(const struct apr_cli_table *t, char letter)
{
    for (size_t k = 0; k < APR_LENGTH(shorts); k++)
        if (shorts[k].letter == letter)
            return apr_cli_exactly(t, shorts[k].name, strlen(shorts[k].name));
    return apr_cli_count(t);
}

bool apr_cli_names_a_file(const struct apr_option *o)
{
    return o->kind == APR_OPTION_PATH || o->kind == APR_OPTION_INPUT || o->kind == APR_OPTION_INPUTS || o->kind == APR_OPTION_OUTPUT ||
        o->kind == APR_OPTION_IMATRIX || o->kind == APR_OPTION_MAYBE_OUTPUT;
}
