/* What the files of this room share. */
#ifndef APR_CONVERSION_PARTS_H
#define APR_CONVERSION_PARTS_H

#include "convert/conversion.h"

/* Opens the source and the grafts, finds their families, wishes for their tensors in the target's dialect; drops, keeps, renames and grafts
 * are done. Close with apr_conversion_close, after a failure too. */
APR_MUST_CHECK enum apr_code apr_conversion_open(struct apr_conversion *c, struct apr_error *e);
void apr_conversion_close(struct apr_conversion *c);

/* codes.c: says behind a message that names of packed weights are those of what is stored, where that is so. And APR_ECORRUPT when what is
 * planned would leave codes without what undoes them. */
void apr_tell_codes(const struct apr_convert_source *s, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_check_codes(const struct apr_conversion *c, struct apr_error *e);

/* Puts the wished tensors into the plan: which dtype each gets, and how it comes about. */
APR_MUST_CHECK enum apr_code apr_plan_tensors(struct apr_conversion *c, struct apr_error *e);

/* The dtype of the parts of a wish, NULL when they differ; of a generated one F32. */
const struct apr_dtype *apr_stored_dtype(const struct apr_wish *x);

/* APR_EARG: it is quantized already, and --allow-requantize is not given. */
enum apr_code apr_refuse_again(struct apr_bytes name, const struct apr_dtype *from, const struct apr_dtype *to, struct apr_error *e);

/* scales.c: puts the factors of NVFP4 blocks into the plan, behind the tensor that they are of, as NAME.scale and NAME.input_scale: a GGUF
 * has them apart. APR_EUNSUPPORTED where parts of one matrix have several. */
APR_MUST_CHECK enum apr_code apr_plan_scales(struct apr_conversion *c, const struct apr_planned *t, struct apr_error *e);

/* Gives the planned tensors, one for each wish, the dtypes of preset and rules, and the importance of their columns. */
APR_MUST_CHECK enum apr_code apr_quantize_tensors(struct apr_conversion *c, struct apr_planned *t, struct apr_error *e);

/* towards.c: gives mixed, one for each planned tensor, dtypes that meet the size that is wanted, those that `mix` lets change; c->aim says
 * what was chosen. And writes the recipe, where one is asked for. */
APR_MUST_CHECK enum apr_code apr_choose_towards(struct apr_conversion *c, struct apr_planned *t, struct apr_mixed *mixed,
                                                const struct apr_mix *mix, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_save_recipe(const struct apr_conversion *c, struct apr_error *e);

/* derived.c: takes a key out of the text of a config.json, of its inner configuration too. */
APR_MUST_CHECK enum apr_code apr_config_drop(struct apr_arena **arena, struct apr_bytes *config, const char *key, struct apr_error *e);

/* What a preset asks of the model: by the keys that a GGUF of it has. */
APR_MUST_CHECK enum apr_code apr_read_mix(struct apr_conversion *c, struct apr_mix *mix, struct apr_error *e);

/* Adds the files of a side to another, which borrows their texts. */
APR_MUST_CHECK enum apr_code apr_copy_side(struct apr_side *to, const struct apr_side *from, struct apr_error *e);

/* Puts metadata, tokenizer and the files beside into the plan, with the edits of the command line. */
APR_MUST_CHECK enum apr_code apr_plan_metadata(struct apr_conversion *c, struct apr_error *e);

#endif
