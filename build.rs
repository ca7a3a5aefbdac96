//! Tells the linker where libtorch lies: a dependency's own run path does not reach our program.
use std::{env, fs, path::PathBuf, process::Command};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    let libtorch = PathBuf::from(env::var("LIBTORCH").unwrap_or_else(|_| ".deps/torch".into()));
    // The link `.deps` may be remade; the program keeps the path that it points to.
    let lib = fs::canonicalize(libtorch.join("lib")).unwrap_or_else(|_| {
        println!("cargo:warning=libtorch not found: run containers/setup.sh");
        libtorch.join("lib")
    });
    println!("cargo:rerun-if-changed={}", lib.display()); // another libtorch since the last build
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());

    println!("cargo:rerun-if-changed=src/network/autograd/shim.cpp");
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/network/autograd/shim.cpp")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .flag("-Wno-unused-parameter") // in libtorch's headers
        .compile("atlas_shim");

    // Every result names the commit that made it; a source without its history (in a container) is
    // told.
    println!("cargo:rerun-if-env-changed=ATLAS_GIT_COMMIT");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()
        .filter(|o| o.status.success());
    let described = described
        .map_or("unknown".into(), |o| String::from_utf8_lossy(&o.stdout).trim().to_string());
    let commit = env::var("ATLAS_GIT_COMMIT").unwrap_or(described);
    println!("cargo:rustc-env=ATLAS_GIT_COMMIT={commit}");
}
