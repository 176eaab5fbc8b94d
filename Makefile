# Builds the apr tools. `make` for the programs, `make demo` to see one at work, `make check` to test them all.
#   MODE=release|asan|tsan   CC=gcc|clang   WERROR=1   PREFIX=/usr/local   DESTDIR=   FUZZ_SECONDS=60   BENCH="--baseline FILE"
MODE    ?= release
BUILD   := build/$(MODE)
PREFIX  ?= /usr/local

PACKAGES  = libzstd liblz4 yaml-0.1 libxxhash jansson libdeflate
DEBIAN    = pkg-config jq libzstd-dev liblz4-dev libyaml-dev libxxhash-dev libjansson-dev libdeflate-dev libcmocka-dev
has_all   = $(shell pkg-config --exists $(PACKAGES) cmocka 2>/dev/null && command -v jq >/dev/null && echo yes)
as_root   = $(shell test $$(id -u) = 0 && echo env || { sudo -n true 2>/dev/null && echo sudo -n env; })
apt       = $(as_root) DEBIAN_FRONTEND=noninteractive apt-get -qq
installed = $(if $(as_root),$(shell { $(apt) update && $(apt) install -y --no-install-recommends $(DEBIAN); } >&2))
ifeq ($(filter clean,$(MAKECMDGOALS))$(has_all),)
  $(info installing $(DEBIAN))$(installed)
  $(if $(has_all),,$(error Libraries are missing. Type: sudo apt-get install $(DEBIAN)))
endif

WARNINGS = -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wpointer-arith -Wwrite-strings \
           $(if $(filter 1,$(WERROR)),-Werror)
FLAGS_release = -O2
FLAGS_asan    = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FLAGS_tsan    = -O1 -fsanitize=thread
FLAGS_fuzz    = -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
CFLAGS  ?= -g
FOUND   := $(shell pkg-config --cflags $(PACKAGES))
LIBS    := $(shell pkg-config --libs $(PACKAGES)) -lm -pthread
# -iquote, not -I: <math.h> and <yaml.h> are the system's, "yaml.h" is ours.
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -ffp-contract=off -pthread $(WARNINGS) $(FLAGS_$(MODE)) -iquote lib -iquote $(BUILD)/lib -iquote $(BUILD) $(FOUND) $(CFLAGS)

obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
SOURCES := $(wildcard lib/*/*.c lib/values/kernels/*.c lib/values/kernels/*/*.c formats/*.c)
HEADERS := $(wildcard lib/*/*.h)
PAGES   := lib/ui/page.css lib/ui/page.js $(wildcard tools/*/page.js)
TOOLS   := $(patsubst tools/%/main.c,$(BUILD)/%,$(wildcard tools/*/main.c))
TESTS   := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
BENCHES := $(BUILD)/bench/bench $(BUILD)/bench/times $(BUILD)/bench/pair
LIBRARY := $(BUILD)/libaprtools.a

all: $(TOOLS)
$(LIBRARY): $(call obj,$(SOURCES)) $(BUILD)/families.o
	@rm -f $@ && ar rcs $@ $^

# The families' contracts as C strings; the codebooks of quantized types as C; styles and scripts of pages as string literals.
$(BUILD)/families.c: lib/family/embed.sh $(sort $(wildcard families/*.yaml))
	@mkdir -p $(@D) && sh $^ >$@.part && mv $@.part $@
$(BUILD)/families.o: $(BUILD)/families.c
	$(CC) $(ALL_CFLAGS) -c -o $@ $<
$(BUILD)/lib/values/kernels/grids.h: lib/values/kernels/grids.jq data/iq-grids.json
	@mkdir -p $(@D) && jq -rf $^ >$@.part && mv $@.part $@
$(call obj,$(wildcard lib/values/kernels/*.c lib/values/kernels/*/*.c)): | $(BUILD)/lib/values/kernels/grids.h
$(PAGES:%=$(BUILD)/%.h): $(BUILD)/%.h: %
	@mkdir -p $(@D) && sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' $< >$@.part && mv $@.part $@
$(call obj,lib/ui/page.c $(wildcard tools/*/page.c)): | $(PAGES:%=$(BUILD)/%.h)

$(BUILD)/tests/%.o $(BUILD)/bench/%.o: ALL_CFLAGS += -iquote tests -DAPR_BUILD='"$(BUILD)"'
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/tests/support.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) -lcmocka
$(BUILD)/tests/test_fuzz: $(BUILD)/tests/fuzz/open.o
$(BUILD)/tests/test_statistics: $(BUILD)/bench/statistics.o
$(BUILD)/tests/test_faults: $(BUILD)/faults_shim.so
$(BUILD)/faults_shim.so: tests/faults_shim.c
	mkdir -p $(@D) && $(CC) -std=c17 -D_GNU_SOURCE -O2 $(WARNINGS) -fPIC -shared -o $@ $< -ldl
$(BUILD)/bench/bench $(BUILD)/bench/times: $(call obj,bench/rounds.c bench/statistics.c)
$(BENCHES): %: %.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS)
.SECONDEXPANSION:
$(BUILD)/apr-%: $$(call obj,$$(wildcard tools/apr-$$*/*.c)) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/headers/%.ok: lib/%.h $(HEADERS)
	@mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -fsyntax-only -x c -include $< /dev/null && touch $@
check: all $(patsubst lib/%.h,$(BUILD)/headers/%.ok,$(HEADERS)) $(TESTS)
	@printf '%s\n' $(TESTS) | xargs -P 2 -I{} sh -c '{} >{}.log 2>&1 || { cat {}.log; echo "make check: {} failed"; exit 1; }'
	@echo "all $(words $(TESTS)) test programs pass ($(MODE))"

# The first block of README.md, so that the page is what happens.
demo: all
	@sed -n 's/^\$$ //p; /^```$$/q' README.md | \
	while IFS= read -r line; do echo "$$ $$line"; PATH="$(CURDIR)/$(BUILD):$$PATH" sh -c "$$line" </dev/null 2>&1; done

bench: all $(BENCHES)
	rm -f $(BUILD)/bench.json && $(BUILD)/bench/bench --json $(BUILD)/bench.json $(BENCH) && sh bench/peers.sh $(BUILD) $(BENCH)

fuzz:
	$(MAKE) MODE=fuzz CC=clang build/fuzz/fuzz && mkdir -p build/fuzz/corpus
	build/fuzz/fuzz -max_total_time=$(or $(FUZZ_SECONDS),60) -rss_limit_mb=1024 -artifact_prefix=build/fuzz/ build/fuzz/corpus fixtures
build/fuzz/fuzz: build/fuzz/tests/fuzz/open.o build/fuzz/libaprtools.a
	$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

install: all
	install -D -t $(DESTDIR)$(PREFIX)/bin $(TOOLS)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/apr-tools README.md $(wildcard docs/*.md)
check-arm: ; bash .ci/arm
clean: ; rm -rf build
-include $(shell find build -name '*.d' 2>/dev/null)
.PHONY: all demo check check-arm bench fuzz install clean
.SECONDARY:
