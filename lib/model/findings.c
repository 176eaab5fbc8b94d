#include "model/findings.h"

#include <assert.h>
#include <string.h>

/* The three columns of a severity: how bad, how bad in mild cases, and whether it keeps the file from being opened. */
#define REFUSED        APR_FAULT, APR_FAULT, true
#define FAULT          APR_FAULT, APR_FAULT, false
#define FAULT_OR(mild) APR_FAULT, mild, false
#define WARNING        APR_WARNING, APR_WARNING, false
#define WARNING_OR(mild) APR_WARNING, mild, false
#define INFO           APR_INFO, APR_INFO, false

const struct apr_finding apr_findings[] = {
    { "file.format", APR_STAGE_CONTAINER, REFUSED, "name the right file; fetch it again" },
    { "file.unreadable", APR_STAGE_CONTAINER, REFUSED, "path, permissions, disk; put the file itself there" },
    { "apr.magic", APR_STAGE_CONTAINER, REFUSED, "export it again with a current writer" },
    { "apr.version", APR_STAGE_CONTAINER, REFUSED, "export it again with a current writer" },
    { "apr.header", APR_STAGE_CONTAINER, REFUSED, "fetch it again; decrypt it; import it again" },
    { "apr.header.crc", APR_STAGE_CONTAINER, REFUSED, "the file was damaged or edited: fetch it again" },
    { "apr.sections", APR_STAGE_CONTAINER, REFUSED, "fetch it again; the writer is broken" },
    { "apr.packed", APR_STAGE_CONTAINER, REFUSED, "fetch it again" },
    { "apr.footer.absent", APR_STAGE_CONTAINER, INFO, "write it again with a footer" },
    { "apr.footer.wrong", APR_STAGE_CONTAINER, FAULT, "the file was damaged: fetch it again" },
    { "apr.flags", APR_STAGE_CONTAINER, WARNING, "tell the writer's author" },
    { "apr.plain", APR_STAGE_CONTAINER, WARNING, "harmless; write it again" },
    { "apr.reserved", APR_STAGE_CONTAINER, WARNING, "tell the writer's author" },
    { "aprt.header", APR_STAGE_CONTAINER, REFUSED, "trace it again" },
    { "gguf.header", APR_STAGE_CONTAINER, REFUSED, "fetch it again; convert it again" },
    { "gguf.big_endian", APR_STAGE_CONTAINER, INFO, "convert it, if it is to be used there" },
    { "index.syntax", APR_STAGE_CONTAINER, REFUSED, "fetch the index again" },
    { "st.header", APR_STAGE_CONTAINER, REFUSED, "fetch it again" },
    { "st.syntax", APR_STAGE_CONTAINER, REFUSED, "the writer is broken: save it again with the reference library" },
    { "st.leading_space", APR_STAGE_CONTAINER, WARNING, "save it again" },

    { "apr.control_name", APR_STAGE_INDEX, FAULT, "rename the tensor; mistrust the file" },
    { "gguf.control_name", APR_STAGE_INDEX, FAULT, "rename the tensor; mistrust the file" },
    { "st.control_name", APR_STAGE_INDEX, FAULT, "rename the tensor; mistrust the file" },
    { "apr.dtype", APR_STAGE_INDEX, REFUSED, "write it again; a newer reader may know it" },
    { "apr.dup_name", APR_STAGE_INDEX, REFUSED, "save it again; remove the stale shard" },
    { "gguf.dup_name", APR_STAGE_INDEX, REFUSED, "save it again; remove the stale shard" },
    { "st.dup_name", APR_STAGE_INDEX, REFUSED, "save it again; remove the stale shard" },
    { "tensor.dup_name", APR_STAGE_INDEX, REFUSED, "save it again; remove the stale shard" },
    { "apr.index", APR_STAGE_INDEX, REFUSED, "fetch it again; write it again" },
    { "apr.unsorted", APR_STAGE_INDEX, REFUSED, "write it again with a sound writer" },
    { "apr.placeholder", APR_STAGE_INDEX, INFO, "none" },
    { "apr.placeholder.loose", APR_STAGE_INDEX, REFUSED, "write the tensor's data" },
    { "gguf.split_empty", APR_STAGE_INDEX, FAULT, "split it again" },
    { "gguf.info", APR_STAGE_INDEX, REFUSED, "fetch it again; quantize it to another type" },
    { "gguf.dtype", APR_STAGE_INDEX, REFUSED, "quantize it again from the source" },
    { "gguf.no_name", APR_STAGE_INDEX, WARNING, "rename it" },
    { "gguf.long_name", APR_STAGE_INDEX, WARNING, "rename it" },
    { "st.dtype", APR_STAGE_INDEX, REFUSED, "save it again" },
    { "st.entry", APR_STAGE_INDEX, REFUSED, "save it again with the reference library" },
    { "st.shape", APR_STAGE_INDEX, REFUSED, "save it again" },
    { "st.unknown_field", APR_STAGE_INDEX, WARNING, "harmless" },
    { "tensor.name", APR_STAGE_INDEX, REFUSED, "save it again" },
    { "tensor.overflow", APR_STAGE_INDEX, REFUSED, "mistrust the file" },
    { "tensor.size", APR_STAGE_INDEX, REFUSED, "save it again" },

    { "apr.align", APR_STAGE_EXTENTS, FAULT, "write it again" },
    { "apr.data", APR_STAGE_EXTENTS, REFUSED, "fetch it again" },
    { "apr.extent", APR_STAGE_EXTENTS, REFUSED, "fetch it again" },
    { "aprt.extent", APR_STAGE_EXTENTS, REFUSED, "fetch it again" },
    { "gguf.data", APR_STAGE_EXTENTS, REFUSED, "fetch it again" },
    { "st.extent", APR_STAGE_EXTENTS, REFUSED, "fetch it again" },
    { "tensor.extent", APR_STAGE_EXTENTS, REFUSED, "fetch it again" },
    { "apr.gap", APR_STAGE_EXTENTS, WARNING, "write it again" },
    { "gguf.gap", APR_STAGE_EXTENTS, WARNING, "write it again" },
    { "st.gap", APR_STAGE_EXTENTS, REFUSED, "save it again" },
    { "apr.overlap", APR_STAGE_EXTENTS, FAULT, "write it again" },
    { "gguf.overlap", APR_STAGE_EXTENTS, REFUSED, "mistrust the file; save it again" },
    { "st.overlap", APR_STAGE_EXTENTS, REFUSED, "mistrust the file; save it again" },
    { "apr.trailing", APR_STAGE_EXTENTS, FAULT, "fetch it again" },
    { "aprt.trailing", APR_STAGE_EXTENTS, WARNING, "harmless; write it again" },
    { "gguf.trailing", APR_STAGE_EXTENTS, WARNING, "harmless; write it again" },
    { "st.trailing", APR_STAGE_EXTENTS, REFUSED, "fetch it again" },
    { "apr.unpadded", APR_STAGE_EXTENTS, FAULT, "fetch it again" },
    { "gguf.align", APR_STAGE_EXTENTS, REFUSED, "write it again" },
    { "gguf.padding", APR_STAGE_EXTENTS, INFO, "harmless" },
    { "gguf.order", APR_STAGE_EXTENTS, WARNING, "write it again" },
    { "gguf.split_total", APR_STAGE_EXTENTS, FAULT, "fetch the shards of one set" },
    { "index.beside", APR_STAGE_EXTENTS, INFO, "name the folder or the index for the whole model" },
    { "file.missing_shard", APR_STAGE_EXTENTS, REFUSED, "fetch it" },
    { "index.missing_shard", APR_STAGE_EXTENTS, REFUSED, "fetch it" },
    { "file.shards", APR_STAGE_EXTENTS, REFUSED, "give them their own names back" },
    { "index.shards", APR_STAGE_EXTENTS, REFUSED, "fetch index and shards of one revision" },
    { "index.ambiguous", APR_STAGE_EXTENTS, WARNING, "remove the stale one" },
    { "index.total_size", APR_STAGE_EXTENTS, WARNING, "write the index again" },

    { "apr.metadata", APR_STAGE_METADATA, REFUSED, "save it again" },
    { "st.metadata", APR_STAGE_METADATA, REFUSED, "save it again" },
    { "apr.metadata_twice", APR_STAGE_METADATA, WARNING, "save it again" },
    { "st.metadata_twice", APR_STAGE_METADATA, WARNING, "save it again" },
    { "apr.sharding", APR_STAGE_METADATA, REFUSED, "write it again" },
    { "gguf.key", APR_STAGE_METADATA, REFUSED, "fetch it again" },
    { "gguf.dup_key", APR_STAGE_METADATA, REFUSED, "write it again" },
    { "gguf.value", APR_STAGE_METADATA, REFUSED, "fetch it again" },
    { "gguf.reserved_key", APR_STAGE_METADATA, REFUSED, "write it again" },
    { "gguf.split", APR_STAGE_METADATA, REFUSED, "fetch the shards of one set" },
    { "gguf.split_missing", APR_STAGE_METADATA, FAULT, "split it again" },
    { "gguf.split_type", APR_STAGE_METADATA, FAULT, "split it again" },
    { "gguf.alignment", APR_STAGE_METADATA, WARNING, "write it again" },
    { "gguf.bad_key", APR_STAGE_METADATA, FAULT, "mistrust the file" },
    { "gguf.bad_utf8", APR_STAGE_METADATA, WARNING, "write it again" },
    { "gguf.bool", APR_STAGE_METADATA, WARNING, "write it again" },
    { "gguf.key_style", APR_STAGE_METADATA, INFO, "none" },
    { "gguf.nested_array", APR_STAGE_METADATA, WARNING, "write it again" },
    { "gguf.no_architecture", APR_STAGE_METADATA, WARNING, "set it" },
    { "gguf.no_quantization_version", APR_STAGE_METADATA, INFO, "set it to 2" },
    { "meta.missing", APR_STAGE_METADATA, FAULT_OR(APR_WARNING), "set it, by the source's config.json" },
    { "meta.type", APR_STAGE_METADATA, FAULT, "set it again with the type named" },
    { "meta.value", APR_STAGE_METADATA, FAULT, "set it, by the source's config.json" },
    { "meta.heads", APR_STAGE_METADATA, FAULT, "set both again" },
    { "meta.experts", APR_STAGE_METADATA, FAULT, "set both again" },
    { "config.syntax", APR_STAGE_METADATA, FAULT, "fetch it again" },
    { "config.architecture", APR_STAGE_METADATA, WARNING, "fetch the original" },
    { "config.missing", APR_STAGE_METADATA, WARNING, "fetch the original" },
    { "config.type", APR_STAGE_METADATA, FAULT, "fetch the original" },

    { "contract.unknown", APR_STAGE_CONTRACT, INFO, "`--family-file`, if you have a contract" },
    { "contract.packed", APR_STAGE_CONTRACT, INFO, "none" },
    { "contract.layers", APR_STAGE_CONTRACT, FAULT, "a conversion broke off, or the wrong config.json" },
    { "contract.missing", APR_STAGE_CONTRACT, FAULT, "convert it again; a shard may have been left out" },
    { "contract.shape", APR_STAGE_CONTRACT, FAULT, "the wrong config.json, or a tensor that was not transposed" },
    { "adapter.empty", APR_STAGE_CONTRACT, WARNING, "save it again, with its weights gathered" },
    { "module.empty", APR_STAGE_CONTRACT, WARNING, "save the model again, with its weights gathered" },
    { "contract.stranger", APR_STAGE_CONTRACT, FAULT, "a leftover of training, or of another family: drop it" },

    { "vocab.absent", APR_STAGE_TOKENIZER, FAULT_OR(APR_INFO), "convert it again beside its tokenizer" },
    { "vocab.unreadable", APR_STAGE_TOKENIZER, FAULT, "put the file itself there" },
    { "vocab.syntax", APR_STAGE_TOKENIZER, FAULT, "fetch it again" },
    { "vocab.type", APR_STAGE_TOKENIZER, FAULT, "write it again" },
    { "vocab.size", APR_STAGE_TOKENIZER, FAULT_OR(APR_INFO), "convert it again with the tokenizer that belongs to it" },
    { "vocab.length", APR_STAGE_TOKENIZER, FAULT_OR(APR_WARNING), "convert it again" },
    { "vocab.id", APR_STAGE_TOKENIZER, FAULT, "fetch the tokenizer again" },
    { "vocab.special", APR_STAGE_TOKENIZER, FAULT, "set it" },
    { "vocab.duplicate", APR_STAGE_TOKENIZER, FAULT, "convert it again" },
    { "vocab.merge", APR_STAGE_TOKENIZER, FAULT, "convert it again" },
    { "vocab.merge_unknown", APR_STAGE_TOKENIZER, WARNING, "convert it again" },
    { "vocab.merges_absent", APR_STAGE_TOKENIZER, FAULT, "convert it again" },
    { "vocab.large", APR_STAGE_TOKENIZER, FAULT, "none" },

    { "values.nonfinite", APR_STAGE_VALUES, FAULT, "the training diverged, or a conversion to F16 overflowed: convert it as BF16 or F32" },
    { "values.range", APR_STAGE_VALUES, FAULT, "the file was damaged, or never filled: fetch or convert it again" },
    { "values.scale", APR_STAGE_VALUES, FAULT, "quantize it again; the source may hold NaN" },
    { "values.undecoded", APR_STAGE_VALUES, INFO, "none" },

    { "values.zero", APR_STAGE_DEGENERATE, FAULT_OR(APR_WARNING), "a tensor that was never loaded or written: convert it again" },
    { "values.constant", APR_STAGE_DEGENERATE, FAULT, "a tensor that was initialised and never loaded" },
    { "values.sparse", APR_STAGE_DEGENERATE, FAULT_OR(APR_WARNING), "a load that broke off; pruned models may" },
    { "values.dead_rows", APR_STAGE_DEGENERATE, INFO, "a token that was never trained, or padding; harmless if so" },

    { "layers.outlier", APR_STAGE_DISTRIBUTION, WARNING_OR(APR_INFO), "look at it with `--stats`; a scale was lost, or two tensors were swapped" },

    { "codec.foreign", APR_STAGE_ROUND_TRIP, WARNING, "the file was damaged, or made by hand: quantize it again" },
    { "codec.loose", APR_STAGE_ROUND_TRIP, INFO, "made by another encoder; harmless" },
    { .code = NULL },
};

const struct apr_finding *apr_finding_of(const char *code)
{
    const struct apr_finding *f = apr_findings;
    while (f->code != NULL && strcmp(f->code, code) != 0)
        f++;
    assert(f->code != NULL);
    return f;
}
