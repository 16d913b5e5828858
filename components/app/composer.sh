#!/bin/bash
# Installs what the application in the working directory needs; runs as the unprivileged build user.
set -euo pipefail
composer install --no-dev --optimize-autoloader --no-interaction --no-progress --no-ansi --prefer-dist
