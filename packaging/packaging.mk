# What is beside the programs, and how all of it is handed on. Included by the Makefile.
NAMES   := $(notdir $(TOOLS))
SHARED  := $(foreach t,$(NAMES),man/man1/$t.1 bash-completion/completions/$t zsh/site-functions/_$t fish/vendor_completions.d/$t.fish)
DOCS    := README.md $(sort $(wildcard docs/*.md))
DOC     := share/doc/apr-tools
# The date of all that is packed: that of the changelog's newest entry, in seconds since 1970.
DATE     = $(shell date -u -d "$$(sed -n 's/^ -- .*>  //p;/^ -- /q' packaging/changelog)" +%s)
complete = $(make) sed 's/TOOL/$*/g' $< >$@.part && mv $@.part $@

# As it lies below $(PREFIX)/share: a man page, written by the tool's own option table, and completions, which ask it.
$(BUILD)/manual/%: $$(call obj,$$(sort $$(wildcard tools/$$*/*.c))) $(BUILD)/packaging/manual.o $(LIBRARY)
	$(link) -Wl,--wrap=apr_cli_parse -o $@ $^ $(LIBS)
$(BUILD)/share/man/man1/%.1: $(BUILD)/manual/% VERSION packaging/changelog $(wildcard tools/*/main.c)
	$(make) $< $(VERSION) $(DATE) $(NAMES) >$@.part && mv $@.part $@
$(BUILD)/share/bash-completion/completions/%: packaging/complete.bash; $(complete)
$(BUILD)/share/zsh/site-functions/_%: packaging/complete.zsh; $(complete)
$(BUILD)/share/fish/vendor_completions.d/%.fish: packaging/complete.fish; $(complete)

# Blanks and quotes in DESTDIR and PREFIX are the shell's to keep.
install: all $(SHARED:%=$(BUILD)/share/%)
	$(call say,INSTALL,"$$DESTDIR$$PREFIX") install -D -m 755 -t "$$DESTDIR$$PREFIX/bin" $(TOOLS)
	for f in $(SHARED); do install -D -m 644 $(BUILD)/share/$$f "$$DESTDIR$$PREFIX/share/$$f" || exit; done
	for f in $(DOCS); do install -D -m 644 $$f "$$DESTDIR$$PREFIX/$(DOC)/$$f" || exit; done
uninstall:
	for f in $(NAMES:%=bin/%) $(SHARED:%=share/%) $(DOCS:%=$(DOC)/%); do rm -f "$$DESTDIR$$PREFIX/$$f" || exit; done
	rmdir "$$DESTDIR$$PREFIX/$(DOC)/docs" "$$DESTDIR$$PREFIX/$(DOC)" 2>/dev/null || true

# All tools in one program that needs nothing beside it.
static:
	$(MAKE) --no-print-directory MODE=static build/static/apr
build/static/lib/values/kernels/iq.o: ALL_CFLAGS += -fno-data-sections
build/static/tools/apr-merge/svd.o: ALL_CFLAGS += -O2
build/static/apr: build/static/libaprtools.a $(call obj,$(sort $(wildcard tools/*/*.c))) $(wildcard packaging/*.c packaging/static.sh)
	$(call say,LINK,$@) CC="$(CC)" CFLAGS='$(ALL_CFLAGS)' PACKAGES="$(PACKAGES)" sh packaging/static.sh build/static $@ $(NAMES)

deb: all
	$(call say,DEB,build/apr-tools_$(VERSION)) rm -rf build/deb && \
	$(MAKE) --no-print-directory install PREFIX=/usr DESTDIR=build/deb/root && sh packaging/deb.sh $(VERSION) $(DATE)
dist:
	$(call say,DIST,build/apr-tools-$(VERSION).tar.xz) sh packaging/dist.sh apr-tools-$(VERSION) $(DATE)
.PHONY: install uninstall static deb dist
