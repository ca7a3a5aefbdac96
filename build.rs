//! Tells the linker where libtorch lies: a dependency's own run path does not reach our program.
use std::{env, fs, path::PathBuf};

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
}
