# Builds the firstboot packages; included by the Makefile.

.PHONY: packages
packages: ## dist/firstboot*.deb and .rpm: units, man pages, completion. VERSION= GOARCH=
	@BUILD_FLAGS='$(GOFLAGS_BUILD)' images/packages/build.sh dist
