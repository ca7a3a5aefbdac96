# shellcheck shell=bash
# Sets `config`, the experiment, and `atlas`, the command that starts the program: as built in the
# project, or in a container.

# shellcheck disable=SC2034 # used by the scripts that source this
config=${ATLAS_CONFIG:-$root/configs/atlas.toml}
if [ -n "${ATLAS_IMAGE:-}" ]; then
    [[ $ATLAS_IMAGE = /* ]] || ATLAS_IMAGE=$root/$ATLAS_IMAGE
    folders=$root,$(dirname -- "$(realpath -- "$config")")${ATLAS_BIND:+,$ATLAS_BIND}
    atlas=(apptainer --quiet exec ${ATLAS_NV:+--nv} --bind "$folders" "$ATLAS_IMAGE" atlas)
else
    atlas=("$root/target/release/atlas")
    [ -x "${atlas[0]}" ] ||
        refuse "the program is not built: run make build in $root, or name an image in ATLAS_IMAGE"
fi
