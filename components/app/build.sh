#!/bin/bash
# Builds the site in the working directory; runs as the unprivileged build user, see static_site.sh.
set -euo pipefail
npm ci --no-audit --no-fund --loglevel=warn
npm run build
