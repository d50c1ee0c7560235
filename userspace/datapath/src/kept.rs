//! Programs that an earlier process has left in the kernel. The kernel looks at every path through a program before it
//! takes it, which takes seconds; one that is there has been looked at.

use std::{collections::BTreeSet, fs, path::Path};

use aya::{
    Ebpf,
    maps::{MapError, MapInfo},
    programs::{Program, ProgramError, SchedClassifier},
};
use nightgate_abi::VERSION;

use crate::{
    datapath::classifier,
    error::DatapathError,
    object::{self, DIGEST, SCRATCH},
    pins::{Pins, failed},
};

/// Longest name of a map in the kernel, in bytes: `BPF_OBJ_NAME_LEN` without its end.
const NAME_LENGTH: usize = 15;
/// The kernel's name of a program's constants.
const CONSTANTS: &str = ".rodata";

/// Makes a program of the object ready to be attached: the one of an earlier process, if it is of the same object and
/// works on the same maps, else a new one, which is kept for the next process.
pub(crate) fn load(
    ebpf: &mut Ebpf,
    name: &'static str,
    pins: Option<&Pins>,
) -> Result<(), DatapathError> {
    if let Some(pins) = pins
        && let Some(program) = find(name, pins)
    {
        let place = ebpf.program_mut(name).ok_or(DatapathError::Missing { object: name })?;
        *place = Program::SchedClassifier(program);
        return Ok(());
    }
    let program = classifier(ebpf, name)?;
    program.load().map_err(|source| DatapathError::Program {
        operation: "load",
        program: name,
        source: source.into(),
    })?;
    pins.map_or(Ok(()), |pins| keep(program, name, pins))
}

/// Pins a program in the place of those that earlier releases have left.
fn keep(
    program: &mut SchedClassifier,
    name: &'static str,
    pins: &Pins,
) -> Result<(), DatapathError> {
    for path in pins.programs(VERSION, name)? {
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    let path = pins.program(VERSION, name, DIGEST);
    program
        .pin(&path)
        .map_err(|error| failed("pin a program at", &path)(std::io::Error::other(error)))?;
    Ok(())
}

fn find(name: &'static str, pins: &Pins) -> Option<SchedClassifier> {
    let path = pins.program(VERSION, name, DIGEST);
    if !path.exists() {
        return None;
    }
    match open(&path, pins) {
        Ok(Some(program)) => Some(program),
        Ok(None) => {
            tracing::warn!(
                program = name,
                "the program in the kernel works on other maps: loading it anew"
            );
            None
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                program = name,
                error,
                "the program in the kernel is of no use: loading it anew"
            );
            None
        }
    }
}

/// The program, if all its maps are the pinned ones but for those that hold nothing between packets.
fn open(path: &Path, pins: &Pins) -> Result<Option<SchedClassifier>, KeptError> {
    let program = SchedClassifier::from_pin(path)?;
    let maps = pins.maps(VERSION);
    let mut pinned = BTreeSet::new();
    for name in object::map_names()?.iter().filter(|name| !SCRATCH.contains(&name.as_str())) {
        pinned.insert(MapInfo::from_pin(maps.join(name))?.id());
    }
    for id in program.info()?.map_ids()?.unwrap_or_default() {
        if !pinned.contains(&id) && !holds_nothing(&MapInfo::from_id(id)?) {
            return Ok(None);
        }
    }
    Ok(Some(program))
}

fn holds_nothing(map: &MapInfo) -> bool {
    let name = map.name_as_str().unwrap_or_default();
    let cut = |scratch: &str| scratch.get(..NAME_LENGTH).unwrap_or(scratch) == name;
    name == CONSTANTS || SCRATCH.into_iter().any(cut)
}

/// Why a program is loaded anew.
#[derive(Debug, thiserror::Error)]
enum KeptError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Object(#[from] DatapathError),
}
