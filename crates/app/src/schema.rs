//! `trivet schema`: the JSON Schemas of what the commands print with `--json`.

use anyhow::Context;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  trivet schema                              the names
  trivet schema cluster > cluster.json       of `trivet status --json`
  trivet status --json | check-jsonschema --schemafile cluster.json -")]
pub struct Args {
    /// Name of the schema, as \"schema\" in the output has it: cluster of trivet.cluster/1; without it: list them
    name: Option<String>,
}

macro_rules! schemas {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../docs/schemas/", $name, ".schema.json")))),*]
    };
}

/// Every schema by its name.
const ALL: &[(&str, &str)] = schemas![
    "alerts",
    "audit",
    "backup",
    "check",
    "cluster",
    "datastore",
    "datastores",
    "fsck",
    "incidents",
    "life",
    "locks",
    "losses",
    "snapshots",
    "status",
    "timeline",
    "vcenter",
    "verify",
    "zk",
];

/// A struct as JSON that names its schema.
///
/// # Errors
/// The value cannot be JSON, which no struct of a status is.
pub fn named(schema: &str, of: &impl serde::Serialize) -> serde_json::Result<serde_json::Value> {
    let mut all = serde_json::to_value(of)?;
    all["schema"] = schema.into();
    Ok(all)
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let Some(wanted) = &args.name else {
        for (name, text) in ALL {
            let schema: serde_json::Value = serde_json::from_str(text)?;
            println!("{name:<12} {}", schema["title"].as_str().unwrap_or_default());
        }
        return Ok(());
    };
    let name = wanted.trim_start_matches("trivet.").split('/').next().unwrap_or_default();
    let found = ALL.iter().find(|(n, _)| *n == name);
    let (_, text) = found.with_context(|| format!("there is no schema {wanted:?}; `trivet schema` lists them"))?;
    print!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_compiles_and_has_the_name_that_outputs_carry() {
        for (name, text) in ALL {
            let schema: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(schema["$id"], format!("trivet.{name}/1"));
            let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
            compiler.add_resource(name, schema).unwrap();
            compiler.compile(name, &mut schemas).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    #[test]
    fn every_folder_entry_is_in_the_list_and_every_output_has_a_schema() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = std::fs::read_dir(here.join("../../docs/schemas"))
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap().replace(".schema.json", ""))
            .collect();
        files.sort();
        assert_eq!(files, ALL.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>());
        let mut folders = vec![here.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let source = std::fs::read_to_string(&path).unwrap();
                for rest in source.split("\"trivet.").skip(1) {
                    let Some((name, version)) = rest.split('"').next().and_then(|id| id.split_once('/')) else {
                        continue;
                    };
                    if version != "1" || name.contains('{') {
                        continue;
                    }
                    assert!(files.iter().any(|f| f == name), "{}: trivet.{name} has no schema", path.display());
                }
            }
        }
    }
}
