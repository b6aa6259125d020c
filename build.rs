//! Generates the code of the contract in `proto/`: messages and services, the table of who may call which method, a Debug
//! that hides secrets, and the descriptor set (with comments) that reflection serves.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value,
};

const PACKAGE: &str = "tokenauthority.v1";

#[expect(
    clippy::disallowed_methods,
    reason = "what cargo tells a build is in its environment"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-env-changed=TOKEN_AUTHORITY_COMMIT");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(contract_files()?)?;
    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    let pool = compiler.descriptor_pool();
    fs::write(out.join("method_rules.rs"), method_rules(&pool)?)?;

    let secretive: Vec<MessageDescriptor> = pool
        .all_messages()
        .filter(|message| message.package_name() == PACKAGE)
        .filter(|message| message.fields().any(|field| is_secret(&field)))
        .collect();
    fs::write(out.join("hidden_debug.rs"), hidden_debug(&secretive)?)?;

    let server = env::var_os("CARGO_FEATURE_SERVER").is_some();
    let mut builder = tonic_prost_build::configure()
        .build_server(server)
        // In order, so that a request that comes again is encoded as it was.
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .skip_debug(secretive.iter().map(MessageDescriptor::full_name));
    if server {
        builder = builder.generate_default_stubs(false);
    }
    builder.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn contract_files() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("proto/tokenauthority/v1")? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path.strip_prefix(Path::new("proto"))?.to_path_buf());
        }
    }
    files.sort();
    Ok(files)
}

/// The rule of every method, as a `match` over the path that the client calls. A method without a rule fails the build.
fn method_rules(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let option = pool
        .get_extension_by_name("tokenauthority.v1.authorization")
        .ok_or("authorization.proto declares no option `authorization`")?;
    let mut paths = String::new();
    let mut arms = String::new();
    for service in pool.services().filter(|s| s.package_name() == PACKAGE) {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let rule = rule_of(&method.options(), &option)
                .ok_or_else(|| format!("{path} says not who may call it"))?;
            writeln!(paths, "    \"{path}\",")?;
            writeln!(arms, "        \"{path}\" => {rule},")?;
        }
    }
    Ok(format!(
        "/// Every method of the contract, as clients call it.\n\
         pub const METHODS: &[&str] = &[\n{paths}];\n\n\
         /// Who may call a method; none for a path that is not of the contract.\n\
         pub fn method_rule(path: &str) -> Option<MethodRule> {{\n    \
         Some(match path {{\n{arms}        _ => return None,\n    }})\n}}\n"
    ))
}

fn rule_of(options: &DynamicMessage, option: &ExtensionDescriptor) -> Option<String> {
    if !options.has_extension(option) {
        return None;
    }
    let authorization = options.get_extension(option);
    let (field, value) = authorization.as_message()?.fields().next()?;
    let value = match value {
        Value::Bool(true) => String::new(),
        Value::String(permission) if !permission.is_empty() => format!("({permission:?})"),
        _ => return None,
    };
    let variant = match field.name() {
        "public" => "Public",
        "authenticated" => "Authenticated",
        "permission" => "Permission",
        "system_permission" => "SystemPermission",
        "own_or_permission" => "OwnOrPermission",
        _ => return None,
    };
    Some(format!("MethodRule::{variant}{value}"))
}

fn is_secret(field: &FieldDescriptor) -> bool {
    field
        .options()
        .get_field_by_name("debug_redact")
        .is_some_and(|value| value.as_bool() == Some(true))
}

/// A Debug for the messages that hold secrets: it shows every field but those.
fn hidden_debug(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in messages {
        if message
            .oneofs()
            .any(|oneof| oneof.fields().any(|f| is_secret(&f)))
        {
            write_oneof_debug(&mut code, message)?;
        }
        writeln!(
            code,
            "impl ::core::fmt::Debug for {} {{\n    \
             fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        \
             f.debug_struct({:?})",
            message.name(),
            message.name()
        )?;
        let mut oneofs_done = Vec::new();
        for field in message.fields() {
            let name = match field.containing_oneof() {
                Some(oneof) if !oneof.is_synthetic() => oneof.name().to_owned(),
                _ => field.name().to_owned(),
            };
            if oneofs_done.contains(&name) {
                continue;
            }
            let in_oneof = name != field.name();
            if !in_oneof && is_secret(&field) {
                writeln!(code, "            .field({name:?}, &\"[hidden]\")")?;
            } else {
                writeln!(code, "            .field({name:?}, &self.{name})")?;
            }
            oneofs_done.push(name);
        }
        writeln!(code, "            .finish()\n    }}\n}}\n")?;
    }
    Ok(code)
}

fn write_oneof_debug(code: &mut String, message: &MessageDescriptor) -> Result<(), Box<dyn Error>> {
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let enumeration = format!("{}::{}", snake(message.name()), camel(oneof.name()));
        writeln!(
            code,
            "impl ::core::fmt::Debug for {enumeration} {{\n    \
             fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n        match self {{"
        )?;
        for field in oneof.fields() {
            let variant = camel(field.name());
            if is_secret(&field) || !matches!(field.kind(), Kind::Message(_)) {
                writeln!(
                    code,
                    "            Self::{variant}(_) => f.write_str(\"{variant}([hidden])\"),"
                )?;
            } else {
                writeln!(
                    code,
                    "            Self::{variant}(value) => f.debug_tuple({variant:?}).field(value).finish(),"
                )?;
            }
        }
        writeln!(code, "        }}\n    }}\n}}\n")?;
    }
    Ok(())
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let (first, rest) = word.split_at(1.min(word.len()));
            first.to_uppercase() + rest
        })
        .collect()
}
