//! Links what makes a run the same every time.

fn main() {
    println!("cargo:rerun-if-changed=src/random.c");
    for object in cc::Build::new()
        .file("src/random.c")
        .compile_intermediates()
    {
        println!("cargo:rustc-link-arg={}", object.display());
    }
}
