#!/usr/bin/env bash
# Style, types, host scripts and generated files. Goes through all of them, then fails if one did.
# `lint.sh --not-run` names the checks this machine has no tool for, one per line.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1-} == --not-run ]]; then
    command -v shellcheck >/dev/null || echo "shellcheck of the host scripts (toolchain/packages.txt)"
    exit 0
fi

failed=()
check() {
    local name=$1 started=$SECONDS
    shift
    if "$@"; then
        echo "==> $name: ok ($((SECONDS - started)) s)"
    else
        echo "==> $name: FAILED"
        failed+=("$name")
    fi
}

# Tracked and new files that are shell by name or by their first line.
scripts() {
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        [[ -f $file ]] || continue
        if [[ $file == *.sh ]] || head -c 64 "$file" | head -n 1 | grep -qaE '^#!.*\b(ba|da)?sh\b'; then
            printf '%s\0' "$file"
        fi
    done
}

shell() { scripts | xargs -0 --no-run-if-empty shellcheck --external-sources; }

check "ruff check" .venv/bin/ruff check --quiet --output-format concise
check "ruff format" .venv/bin/ruff format --check --quiet
check "mypy --strict" .venv/bin/mypy --no-error-summary .
if command -v shellcheck >/dev/null; then
    check "shellcheck" shell
fi
check "stack schema is fresh" .venv/bin/python -m config schema --check
check "docs/config.md is fresh" .venv/bin/python -m config docs --check
check "stack files" .venv/bin/python -m config check

if ((${#failed[@]})); then
    echo "==> failed: ${failed[*]}" >&2
    exit 1
fi
