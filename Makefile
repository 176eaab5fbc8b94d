# Builds the apr tools. `make` for the programs, `make demo` to see one at work, `make check` to test them all.
#   MODE=release|asan|tsan   CC=gcc|clang   WERROR=1   V=1 (commands)   PREFIX=/usr/local   DESTDIR=   FUZZ_SECONDS=60   BENCH="--baseline FILE"
MODE    ?= release
BUILD   := build/$(MODE)
PREFIX  ?= /usr/local

PACKAGES = libzstd liblz4 yaml-0.1 libxxhash jansson libdeflate libpcre2-8 libutf8proc
DEBIAN   = pkg-config jq libzstd-dev liblz4-dev libyaml-dev libxxhash-dev libjansson-dev libdeflate-dev libpcre2-dev libutf8proc-dev libcmocka-dev libmpfr-dev \
           libmicrohttpd-dev libcurl4-openssl-dev
has_all  = pkg-config --exists $(PACKAGES) cmocka mpfr libmicrohttpd libcurl 2>/dev/null && command -v jq >/dev/null
install  = apt-get install -y --no-install-recommends $(DEBIAN)
ifneq ($(filter-out clean deps demo,$(or $(MAKECMDGOALS),all)),)
  $(if $(shell $(has_all) && echo yes),,$(error Libraries are missing. Type: sudo $(install)))
endif

WARNINGS = -Wall -Wextra -Wno-missing-field-initializers -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wpointer-arith -Wwrite-strings \
           $(if $(filter 1,$(WERROR)),-Werror)
FLAGS_release = -O2
FLAGS_asan    = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FLAGS_tsan    = -O1 -fsanitize=thread
FLAGS_static  = -Oz -DAPR_STATIC -fno-pie -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables
FLAGS_fuzz    = -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
CFLAGS  ?= -g
VERSION := $(shell cat VERSION)
export PWD := $(CURDIR)
FOUND   := $(shell pkg-config --cflags $(PACKAGES))
LIBS    := $(shell pkg-config --libs $(PACKAGES)) -lm -pthread
# -iquote, not -I: <math.h> and <yaml.h> are the system's, "yaml.h" is ours.
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -ffp-contract=off -ffile-prefix-map=$(CURDIR)=. -pthread $(WARNINGS) $(FLAGS_$(MODE)) -iquote lib -iquote $(BUILD)/lib -iquote $(BUILD) $(FOUND) $(CFLAGS)

# One short line a file, or with V=1 the commands.
ifneq ($(V),1)
.SILENT:
say      = printf '%-4s %s\n' $(1) $(2) &&
endif
compile  = $(call say,CC,$<) mkdir -p $(@D) && $(CC) $(ALL_CFLAGS)
link     = $(call say,LINK,$@) mkdir -p $(@D) && $(CC) $(ALL_CFLAGS)
make     = $(call say,MAKE,$@) mkdir -p $(@D) &&
complete = $(make) sed 's/TOOL/$*/g' $< >$@.part && mv $@.part $@

obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
SOURCES := $(sort $(wildcard lib/*/*.c lib/values/kernels/*.c lib/values/kernels/*/*.c formats/*.c))
HEADERS := $(wildcard lib/*/*.h)
PAGES   := lib/ui/page.css lib/ui/page.js $(wildcard tools/*/page.js)
TOOLS   := $(patsubst tools/%/main.c,$(BUILD)/%,$(sort $(wildcard tools/*/main.c)))
FUZZ    := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
LINEAR  := $(call obj,$(filter-out %/main.c,$(wildcard tools/apr-linear/*.c)))
MERGE   := tools/apr-merge/config.c tools/apr-merge/parameters.c tools/apr-merge/methods.c
FUZZED  := $(call obj,$(filter-out %/main.c,$(wildcard tools/apr-diff/*.c)) $(MERGE) tests/linear_server.c) $(LINEAR)
TESTS   := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
BENCHES := $(BUILD)/bench/bench $(BUILD)/bench/times $(BUILD)/bench/pair $(BUILD)/bench/load $(BUILD)/bench/linear
LIBRARY := $(BUILD)/libaprtools.a
EMBEDDED = families include maps
NAMES   := $(notdir $(TOOLS))
SHARED  := $(foreach t,$(NAMES),man/man1/$t.1 bash-completion/completions/$t zsh/site-functions/_$t fish/vendor_completions.d/$t.fish)
DOCS    := README.md $(sort $(wildcard docs/*.md))
DATE     = $(shell date -u -d "$$(sed -n 's/^ -- .*>  //p;/^ -- /q' packaging/changelog)" +%s)

all: $(TOOLS)
$(LIBRARY): $(call obj,$(SOURCES)) $(EMBEDDED:%=$(BUILD)/%.o)
	$(call say,AR,$@) rm -f $@ && ar rcsD $@ $^

# The families' contracts, what they include and the maps of foreign names as C strings; the codebooks of quantized types as C; styles and scripts of pages as string literals.
$(BUILD)/families.c: $(sort $(wildcard families/*.yaml))
$(BUILD)/include.c: $(sort $(wildcard families/include/*.yaml))
$(BUILD)/maps.c: $(sort $(wildcard maps/*.yaml))
$(BUILD)/families.c: lib/family/index.awk
$(EMBEDDED:%=$(BUILD)/%.c): lib/family/embed.sh
	$(make) sh $< $(filter %.yaml,$^) >$@.part && mv $@.part $@
$(EMBEDDED:%=$(BUILD)/%.o): %.o: %.c
	$(compile) -c -o $@ $<
$(BUILD)/lib/values/kernels/grids.h: lib/values/kernels/grids.jq data/iq-grids.json
	$(make) jq -rf $^ >$@.part && mv $@.part $@
$(call obj,$(wildcard lib/values/kernels/*.c lib/values/kernels/*/*.c)): | $(BUILD)/lib/values/kernels/grids.h
$(PAGES:%=$(BUILD)/%.h): $(BUILD)/%.h: %
	$(make) sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' $< >$@.part && mv $@.part $@
$(call obj,lib/ui/page.c $(wildcard tools/*/page.c)): | $(PAGES:%=$(BUILD)/%.h)

$(BUILD)/lib/ui/cli.o: ALL_CFLAGS += -DAPR_VERSION='"$(VERSION)"'
$(BUILD)/lib/ui/cli.o: VERSION
$(BUILD)/tests/%.o $(BUILD)/bench/%.o: ALL_CFLAGS += -iquote tests -DAPR_BUILD='"$(BUILD)"'
$(BUILD)/%.o: %.c
	$(compile) -MMD -MP -c -o $@ $<
$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(BUILD)/tests/support.o $(LIBRARY)
	$(link) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS) -lcmocka
$(BUILD)/tests/test_fmath: LIBS += -lmpfr
$(BUILD)/tests/fuzz/%.o: ALL_CFLAGS += $(if $(filter-out fuzz,$(MODE)),-DLLVMFuzzerTestOneInput=fuzz_$(notdir $*))
$(BUILD)/tests/test_fuzz.o: ALL_CFLAGS += '-DFUZZ_TARGETS=${FUZZ:%=FUZZ(%)}'
$(BUILD)/tests/test_fuzz: $(FUZZ:%=$(BUILD)/tests/fuzz/%.o) $(FUZZED)
$(addprefix $(BUILD)/tests/test_,bind detect net packing pretoken translate tokenizer_write wish): $(BUILD)/tests/bare_model.o
$(addprefix $(BUILD)/tests/test_,rows row_values): $(BUILD)/tests/chains.o
$(addprefix $(BUILD)/tests/test_,computed plan plan_write target trial): $(BUILD)/tests/plans.o
$(addprefix $(BUILD)/tests/test_,spm unigram wordpiece normalize): $(BUILD)/tests/token_vectors.o
$(BUILD)/tests/test_statistics: $(BUILD)/bench/statistics.o
$(BUILD)/tests/test_linear_serve: $(BUILD)/tests/linear_server.o $(LINEAR)
$(BUILD)/tests/test_manual: $(SHARED:%=$(BUILD)/share/%)
$(BUILD)/tests/test_linear_data: $(LINEAR)
$(addprefix $(BUILD)/tests/test_,docs remote): $(BUILD)/tests/remote_server.o
$(BUILD)/tests/test_in_place: $(call obj,tools/apr-convert/in_place.c)
$(addprefix $(BUILD)/tests/test_,faults outputs in_place convert_targets quantize_targets): $(BUILD)/faults_shim.so
$(BUILD)/faults_shim.so: tests/faults_shim.c
	$(make) $(CC) -std=c17 -D_GNU_SOURCE -O2 $(WARNINGS) -fPIC -shared -o $@ $< -ldl
$(BUILD)/bench/bench $(BUILD)/bench/times: $(call obj,bench/rounds.c bench/statistics.c)
$(BUILD)/bench/bench: $(call obj,bench/packed.c)
$(BUILD)/bench/linear: $(call obj,bench/statistics.c) $(LINEAR)
$(BENCHES): %: %.o $(LIBRARY)
	$(link) -o $@ $(filter %.o,$^) $(LIBRARY) $(LIBS)
.SECONDEXPANSION:
$(BUILD)/apr-%: $$(call obj,$$(sort $$(wildcard tools/apr-$$*/*.c))) $(LIBRARY)
	$(link) -o $@ $^ $(LIBS)
$(BUILD)/headers/%.ok: lib/%.h $(HEADERS)
	mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -fsyntax-only -x c -include $< /dev/null && touch $@
check: all $(patsubst lib/%.h,$(BUILD)/headers/%.ok,$(HEADERS)) $(TESTS)
	@printf '%s\n' $(TESTS) | xargs -P 2 -I{} sh -c '{} >{}.log 2>&1 || { cat {}.log; echo "make check: {} failed"; exit 1; }'
	@echo "all $(words $(TESTS)) test programs pass ($(MODE))"

deps:
	$(has_all) || { $$(test $$(id -u) = 0 || echo sudo -n) env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -qq update && $(install)' >&2; } || \
	{ echo 'Type: sudo $(install)' >&2; false; }

# The first block of README.md, so that the page is what happens; then the line that makes the next blocks work.
demo: deps
	$(MAKE) --no-print-directory all
	@sed -n 's/^\$$ //p; /^```$$/q' README.md | \
	while IFS= read -r line; do echo "$$ $$line"; PATH="$(CURDIR)/$(BUILD):$$PATH" sh -c "$$line" </dev/null 2>&1; done
	@echo; echo 'export PATH="$(CURDIR)/$(BUILD):$$PATH"'

bench: all $(BENCHES)
	rm -f $(BUILD)/bench.json && $(BUILD)/bench/bench --json $(BUILD)/bench.json $(BENCH) && sh bench/peers.sh $(BUILD) $(BENCH)
	sh bench/linear.sh $(BUILD)

# Each target of tests/fuzz in turn, or those that FUZZ names. On Debian it takes libclang-rt-14-dev.
fuzz:
	$(MAKE) MODE=fuzz CC=clang $(FUZZ:%=build/fuzz/%)
	for t in $(FUZZ); do mkdir -p build/fuzz/corpus/$$t && echo "FUZZ $$t" && build/fuzz/$$t -max_total_time=$(or $(FUZZ_SECONDS),60) \
	-timeout=30 -rss_limit_mb=1024 -artifact_prefix=build/fuzz/$$t- build/fuzz/corpus/$$t tests/fuzz/$$t || exit; done
$(FUZZ:%=build/fuzz/%): build/fuzz/%: build/fuzz/tests/fuzz/%.o $(FUZZED) build/fuzz/libaprtools.a
	$(link) -fsanitize=fuzzer -o $@ $^ $(LIBS)

# What is beside the programs, as it lies below $(PREFIX)/share: a man page, written by the tool's own option table, and completions, which ask it.
$(BUILD)/manual/%: $$(call obj,$$(sort $$(wildcard tools/$$*/*.c))) $(BUILD)/packaging/manual.o $(LIBRARY)
	$(link) -Wl,--wrap=apr_cli_parse -o $@ $^ $(LIBS)
$(BUILD)/share/man/man1/%.1: $(BUILD)/manual/% VERSION packaging/changelog
	$(make) $< $(VERSION) $(DATE) $(NAMES) >$@.part && mv $@.part $@
$(BUILD)/share/bash-completion/completions/%: packaging/complete.bash; $(complete)
$(BUILD)/share/zsh/site-functions/_%: packaging/complete.zsh; $(complete)
$(BUILD)/share/fish/vendor_completions.d/%.fish: packaging/complete.fish; $(complete)

install: all $(SHARED:%=$(BUILD)/share/%)
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(TOOLS)
	for f in $(SHARED); do install -D -m 644 $(BUILD)/share/$$f $(DESTDIR)$(PREFIX)/share/$$f || exit; done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/apr-tools $(DOCS)
uninstall:
	rm -f $(NAMES:%=$(DESTDIR)$(PREFIX)/bin/%) $(SHARED:%=$(DESTDIR)$(PREFIX)/share/%) $(addprefix $(DESTDIR)$(PREFIX)/share/doc/apr-tools/,$(notdir $(DOCS)))
	rmdir $(DESTDIR)$(PREFIX)/share/doc/apr-tools 2>/dev/null || true
# All tools in one program that needs nothing beside it.
static:
	$(MAKE) --no-print-directory MODE=static build/static/apr
build/static/lib/values/kernels/iq.o: ALL_CFLAGS += -fno-data-sections
build/static/apr: build/static/libaprtools.a $(call obj,$(sort $(wildcard tools/*/*.c))) $(wildcard packaging/*.c packaging/static.sh)
	$(call say,LINK,$@) CC="$(CC)" CFLAGS='$(ALL_CFLAGS)' PACKAGES="$(PACKAGES)" sh packaging/static.sh build/static $@ $(NAMES)
deb: all
	$(call say,DEB,build/apr-tools_$(VERSION)) rm -rf build/deb && $(MAKE) --no-print-directory install PREFIX=/usr DESTDIR=build/deb/root && sh packaging/deb.sh $(VERSION) $(DATE)
dist:
	$(call say,DIST,build/apr-tools-$(VERSION).tar.xz) sh packaging/dist.sh apr-tools-$(VERSION) $(DATE)
check-arm: ; bash .ci/arm
clean: ; rm -rf build
-include $(shell find build -type f -name '*.d' 2>/dev/null)
.PHONY: all deps demo check check-arm bench fuzz install uninstall static deb dist clean
.SECONDARY:
