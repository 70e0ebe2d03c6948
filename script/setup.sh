# What script/test and script/demo share; sourced by them, from the root of the project.

# Ends the script unless there is a Node that can run redis-kit.
require_node() {
  local version major minor
  version=$(node -p process.versions.node 2>/dev/null) || version=''
  IFS=. read -r major minor _ <<<"$version"
  if [ -z "$version" ]; then
    echo "redis-kit needs Node.js 20.19 or later, and there is no node on the PATH." >&2
  elif [ "$major" -lt 20 ] || { [ "$major" -eq 20 ] && [ "$minor" -lt 19 ]; }; then
    echo "redis-kit needs Node.js 20.19 or later, and this is $version." >&2
  else
    return 0
  fi
  echo "Get a current one from https://nodejs.org or with a version manager such as nvm." >&2
  exit 1
}

# npm writes node_modules/.package-lock.json last, so an installation that was cut short counts as none.
require_dependencies() {
  local installed=node_modules/.package-lock.json
  if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
    echo "Installing the dependencies (npm ci)."
    npm ci </dev/null
  fi
}
