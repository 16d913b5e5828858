#!/bin/bash
# Builds the site in the working directory; runs as the unprivileged build user, see static_site.sh.
set -euo pipefail
export NO_COLOR=1
npm ci --no-audit --no-fund --no-update-notifier --loglevel=warn
npm run build
