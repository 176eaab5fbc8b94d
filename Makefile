# Builds the apr tools. `make` for the programs, `make demo` to see one at work, `make check` to test them all.
#   MODE=release|asan|tsan   CC=gcc|clang   WERROR=1   V=1 (commands)   PREFIX=/usr/local   DESTDIR=   FUZZ_SECONDS=60
#   BENCH="--baseline FILE"
MODE    ?= release
BUILD   := build/$(MODE)
PREFIX  ?= /usr/local

PACKAGES = libzstd liblz4 yaml-0.1 libxxhash jansson libdeflate libpcre2-8 libutf8proc
DEBIAN   = pkg-config jq libzstd-dev liblz4-dev libyaml-dev libxxhash-dev libjansson-dev libdeflate-dev libpcre2-dev libutf8proc-dev \
           libcmocka-dev libmpfr-dev libmicrohttpd-dev libcurl4-openssl-dev
has_all  = pkg-config --exists $(PACKAGES) cmocka mpfr libmicrohttpd libcurl 2>/dev/null && command -v jq >/dev/null
install  = apt-get install -y --no-install-recommends $(DEBIAN)
ifneq ($(filter-out clean deps demo dist uninstall,$(or $(MAKECMDGOALS),all)),)
  $(if $(shell $(has_all) && echo yes),,$(error Libraries are missing. Type: sudo $(install)))
endif

WARNINGS = -Wall -Wextra -Wno-missing-field-initializers -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla \
           -Wpointer-arith -Wwrite-strings $(if $(filter 1,$(WERROR)),-Werror)
FLAGS_release = -O2
FLAGS_asan    = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FLAGS_tsan    = -O1 -fsanitize=thread
FLAGS_static  = -Oz -DAPR_STATIC -fno-pie -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables
FLAGS_fuzz    = -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
CFLAGS  ?= -g
VERSION := $(shell cat VERSION)
export PWD := $(CURDIR)
export PREFIX DESTDIR
FOUND   := $(shell pkg-config --cflags $(PACKAGES))
LIBS    := $(shell pkg-config --libs $(PACKAGES)) -lm -pthread
# -iquote, not -I: <math.h> and <yaml.h> are the system's, "yaml.h" is ours.
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -ffp-contract=off -pthread $(WARNINGS) $(FLAGS_$(MODE)) \
             -iquote lib -iquote $(BUILD)/lib -iquote $(BUILD) $(FOUND) $(CFLAGS)

# One short line a file, or with V=1 the commands.
ifneq ($(V),1)
.SILENT:
say      = printf '%-4s %s\n' $(1) $(2) &&
endif
compile  = $(call say,CC,$<) mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) '-ffile-prefix-map=$(CURDIR)=.'
link     = $(call say,LINK,$@) mkdir -p $(@D) && $(CC) $(ALL_CFLAGS)
make     = $(call say,MAKE,$@) mkdir -p $(@D) &&

obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
SOURCES := $(sort $(wildcard lib/*/*.c lib/values/kernels/*.c lib/values/kernels/*/*.c formats/*.c))
HEADERS := $(filter-out %_lanes.h,$(wildcard lib/*/*.h))
PAGES   := lib/ui/page.css lib/ui/page.js $(wildcard tools/*/page.js)
TOOLS   := $(patsubst tools/%/main.c,$(BUILD)/%,$(sort $(wildcard tools/*/main.c)))
LIBRARY := $(BUILD)/libaprtools.a
EMBEDDED = families include maps

all: $(TOOLS)
$(LIBRARY): $(call obj,$(SOURCES)) $(EMBEDDED:%=$(BUILD)/%.o)
	$(call say,AR,$@) rm -f $@ && ar rcsD $@ $^

# The families' contracts, what they include and the maps of foreign names as C strings; the codebooks of quantized types as C; styles and
# scripts of pages as string literals.
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
$(BUILD)/%.o: %.c
	$(compile) -MMD -MP -c -o $@ $<
.SECONDEXPANSION:
$(BUILD)/apr-%: $$(call obj,$$(sort $$(wildcard tools/apr-$$*/*.c))) $(LIBRARY)
	$(link) -o $@ $^ $(LIBS)
include packaging/packaging.mk tests/tests.mk bench/bench.mk

deps:
	$(has_all) || \
	{ $$(test $$(id -u) = 0 || echo sudo -n) env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -qq update && $(install)' >&2; } || \
	{ echo 'Type: sudo $(install)' >&2; false; }

# The first block of README.md, so that the page is what happens; then the line that makes the next blocks work.
demo: deps
	$(MAKE) --no-print-directory all
	@sed -n 's/^\$$ //p; /^```$$/q' README.md | \
	while IFS= read -r line; do echo "$$ $$line"; PATH="$(CURDIR)/$(BUILD):$$PATH" sh -c "$$line" </dev/null 2>&1; done
	@echo; echo 'export PATH="$(CURDIR)/$(BUILD):$$PATH"'

clean: ; rm -rf build
-include $(shell find build -type f -name '*.d' 2>/dev/null)
.PHONY: all deps demo clean
.SECONDARY:
