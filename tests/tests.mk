# The tests, which `make check` runs, and what they need beside the library; the fuzzers, which `make fuzz` lets loose.
# Included by the Makefile.
TESTS   := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
FUZZ    := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
LINEAR  := $(call obj,$(filter-out %/main.c,$(wildcard tools/apr-linear/*.c)))
MERGE   := tools/apr-merge/config.c tools/apr-merge/parameters.c tools/apr-merge/methods.c
FUZZED  := $(call obj,$(filter-out %/main.c,$(wildcard tools/apr-diff/*.c)) $(MERGE) tests/linear_server.c) $(LINEAR) \
           $(BUILD)/tests/inspect.o
test     = $(addprefix $(BUILD)/tests/test_,$(1))

$(BUILD)/tests/%.o: ALL_CFLAGS += -iquote tests -DAPR_BUILD='"$(BUILD)"'
$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/tests/support.o $(LIBRARY)
	$(link) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) -lcmocka
$(call test,bind detect net packing pretoken translate tokenizer_write wish): $(BUILD)/tests/bare_model.o
$(call test,rows row_values): $(BUILD)/tests/chains.o
$(call test,computed plan plan_write target trial): $(BUILD)/tests/plans.o
$(call test,spm unigram wordpiece normalize): $(BUILD)/tests/token_vectors.o
$(call test,docs remote remote_faults remote_kept trace_folder trace_judge): $(BUILD)/tests/remote_server.o
$(call test,remote remote_faults remote_kept): $(BUILD)/tests/remote_world.o
$(call test,linear_serve): $(BUILD)/tests/linear_server.o
$(call test,linear_serve linear_data): $(LINEAR)
$(call test,statistics): $(BUILD)/bench/statistics.o
$(call test,in_place): $(call obj,tools/apr-convert/in_place.c)
$(call test,merge_loops): $(call obj,tools/apr-merge/loops.c)
$(call test,manual): $(SHARED:%=$(BUILD)/share/%)
$(call test,fmath): LIBS += -lmpfr
$(call test,faults outputs in_place convert_targets quantize_targets): $(BUILD)/faults_shim.so
$(BUILD)/faults_shim.so: tests/faults_shim.c
	$(make) $(CC) -std=c17 -D_GNU_SOURCE -O2 $(WARNINGS) -fPIC -shared -o $@ $< -ldl
$(BUILD)/headers/%.ok: lib/%.h $(HEADERS)
	mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -fsyntax-only -x c -include $< /dev/null && touch $@

check: all $(patsubst lib/%.h,$(BUILD)/headers/%.ok,$(HEADERS)) $(TESTS)
	@printf '%s\n' $(TESTS) | xargs -P 2 -I{} sh -c '{} >{}.log 2>&1 || { cat {}.log; echo "make check: {} failed"; exit 1; }'
	@echo "all $(words $(TESTS)) test programs pass ($(MODE))"
check-arm: ; bash .ci/arm

# Each target of tests/fuzz is tried by test_fuzz too, on the inputs that lie beside it.
$(BUILD)/tests/fuzz/%.o: ALL_CFLAGS += $(if $(filter-out fuzz,$(MODE)),-DLLVMFuzzerTestOneInput=fuzz_$(notdir $*))
$(BUILD)/tests/test_fuzz.o: ALL_CFLAGS += '-DFUZZ_TARGETS=${FUZZ:%=FUZZ(%)}'
# What --merge of apr-inspect reads with, without the names that apr-diff has too.
$(BUILD)/tests/inspect.o: $(call obj,$(filter-out %/main.c %/merge.c,$(wildcard tools/apr-inspect/*.c)))
	$(make) ld -r -o $@ $^ && objcopy $(foreach s,read_share share_rows,--redefine-sym $s=inspect_$s) \
	$(foreach s,add_finding write_metadata spell_count write_row,-L $s) $@
$(call test,fuzz): $(FUZZ:%=$(BUILD)/tests/fuzz/%.o) $(FUZZED)

# Each in turn, or those that FUZZ names. On Debian it takes libclang-rt-14-dev.
fuzz:
	$(MAKE) MODE=fuzz CC=clang $(FUZZ:%=build/fuzz/%)
	for t in $(FUZZ); do mkdir -p build/fuzz/corpus/$$t && echo "FUZZ $$t" && build/fuzz/$$t -max_total_time=$(or $(FUZZ_SECONDS),60) \
	-timeout=30 -rss_limit_mb=1024 -artifact_prefix=build/fuzz/$$t- build/fuzz/corpus/$$t tests/fuzz/$$t || exit; done
$(FUZZ:%=build/fuzz/%): build/fuzz/%: build/fuzz/tests/fuzz/%.o $(FUZZED) build/fuzz/libaprtools.a
	$(link) -fsanitize=fuzzer -o $@ $^ $(LIBS)
.PHONY: check check-arm fuzz
