#!/bin/sh
# Checks what croplake cannot install itself, before anything is installed: Python 3.11, Java 17 or 21.
# Prints the Python to use; says in one line what is missing and exits 2.
set -u

fail() {
    echo "croplake: $1" >&2
    exit 2
}

python=""
for candidate in ${PYTHON:-} python3.11 python3 python; do
    found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    [ "$found" = 3.11 ] && python=$candidate && break
    other="$candidate is Python $found"
done
[ -n "$python" ] || fail "${other:-no python3.11 on the PATH}; Python 3.11 is needed: install it (apt install python3.11 python3.11-venv, brew install python@3.11, or pyenv install 3.11) or set PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module; install it (apt install python3.11-venv)"

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
needed="Java 17 or 21 is needed: install a JDK (apt install openjdk-17-jre-headless, brew install openjdk@17) or set JAVA_HOME"
version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9][0-9._]*\).*/\1/p' | head -n 1)
[ -n "$version" ] || fail "no working $java; $needed"
case ${version%%.*} in
    17 | 21) ;;
    *) fail "$java is Java $version; $needed" ;;
esac
echo "$python"
