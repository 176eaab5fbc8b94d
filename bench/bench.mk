# The benches, which `make bench` runs. Included by the Makefile.
BENCHES := $(addprefix $(BUILD)/bench/,bench times pair tuned load linear)

$(BUILD)/bench/%.o: ALL_CFLAGS += -iquote tests -DAPR_BUILD='"$(BUILD)"'
$(BUILD)/bench/bench $(BUILD)/bench/times: $(call obj,bench/rounds.c bench/statistics.c)
$(BUILD)/bench/bench: $(call obj,bench/packed.c)
$(BUILD)/bench/linear: $(call obj,bench/statistics.c) $(LINEAR)
$(BENCHES): %: %.o $(LIBRARY)
	$(link) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS)

bench: all $(BENCHES)
	rm -f $(BUILD)/bench.json && $(BUILD)/bench/bench --json $(BUILD)/bench.json $(BENCH) && sh bench/peers.sh $(BUILD) $(BENCH)
	sh bench/linear.sh $(BUILD)
	sh bench/merge.sh $(BUILD)
.PHONY: bench
