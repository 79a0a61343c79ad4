//! The three files behind a release, and what they say together.

use serde_json::{Map, Value};

use super::merge::{Null, merge};
use super::{check, file, hold, layout, refusal};
use crate::name::{EnvironmentName, ServiceName};
use crate::pin;
use crate::refusal::{Code, Refusal};
use crate::release::{Origin, Release, Rules};
use crate::service::Service;
use crate::tree::Files;
use crate::yaml::{self, Fault};

/// A file, or the part of it, that is laid over others.
#[derive(Debug)]
pub(super) struct Layer {
    /// Where it stands, for a person to find.
    place: String,
    fields: Map<String, Value>,
    /// Of an overlay: why its author holds the service.
    pub(super) hold: Option<String>,
}

impl Layer {
    fn new(place: String, value: Value) -> Self {
        let fields = match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let hold = None;
        Self {
            place,
            fields,
            hold,
        }
    }

    /// Reads the base of a service.
    pub(super) fn base(files: &Files, service: &ServiceName) -> Result<Self, Refusal> {
        let path = layout::base(service);
        let value = yaml::parse_layer(file(files, &path)?).map_err(|refusal| refusal.at(&path))?;
        let base = Self::new(path, value);
        base.has_no_pin()?;
        Ok(base)
    }

    /// Takes the defaults out of an environment's rules.
    pub(super) fn defaults(rules: &Rules) -> Result<Self, Refusal> {
        let place = format!("{}: defaults", layout::rules(&rules.environment));
        let defaults = Self::new(place, Value::Object(rules.spec.defaults.clone()));
        defaults.has_no_pin()?;
        Ok(defaults)
    }

    /// Reads an overlay, which must carry the pin and may carry a hold.
    pub(super) fn overlay(
        files: &Files,
        environment: &EnvironmentName,
        service: &ServiceName,
    ) -> Result<Self, Refusal> {
        let path = layout::overlay(environment, service);
        let bytes = file(files, &path)?;
        let value = yaml::parse_layer(bytes).map_err(|refusal| refusal.at(&path))?;
        pin::locate(&String::from_utf8_lossy(bytes), &value)
            .map_err(|refusal| refusal.at(&path))?;
        let mut overlay = Self::new(path, value);
        let hold = hold::take(&mut overlay.fields);
        overlay.hold = hold.map_err(|fault| refusal(&overlay.place, &fault))?;
        Ok(overlay)
    }

    /// Nothing runs anywhere without being pinned there: only overlays carry pins.
    fn has_no_pin(&self) -> Result<(), Refusal> {
        let source = self.fields.get("source");
        if source.and_then(|source| source.get("commit")).is_none() {
            return Ok(());
        }
        let detail = "source.commit: only an overlay carries a pin";
        Err(Refusal::new(Code::PinInvalid, detail).at(&self.place))
    }

    /// Counts how many keys of the path of a field this layer has.
    fn depth(&self, field: &str) -> usize {
        let mut below = Some(&self.fields);
        let keys = field.split(['.', '[']);
        let found = keys.take_while(|key| {
            let value = below.and_then(|fields| fields.get(*key));
            below = value.and_then(Value::as_object);
            value.is_some()
        });
        found.count()
    }
}

/// Lays an overlay over a base over defaults and checks what comes out.
pub(super) fn release(
    rules: &Rules,
    service: &ServiceName,
    layers: [&Layer; 3],
    origin: &Origin,
) -> Result<Release, Vec<Refusal>> {
    // The uppermost layer that wrote the field, or came closest to it, is the file to correct.
    let blame = |fault: &Fault| {
        let layer = layers.iter().max_by_key(|layer| layer.depth(&fault.field));
        refusal(layer.map_or("", |layer| &layer.place), fault)
    };
    let [defaults, base, overlay] = layers;
    let mut fields = defaults.fields.clone();
    let spec: Service = merge(&mut fields, &base.fields, Null::MayFindNothing)
        .and_then(|()| merge(&mut fields, &overlay.fields, Null::MustRemove))
        .and_then(|()| yaml::fields(&Value::Object(fields)))
        .map_err(|fault| vec![blame(&fault)])?;
    let faults = check::service(&spec);
    if !faults.is_empty() {
        return Err(faults.iter().map(blame).collect());
    }
    let release = Release {
        service: service.clone(),
        environment: rules.environment.clone(),
        origin: origin.clone(),
        spec,
    };
    // Three files within their bounds can add up to one beyond them.
    yaml::parse(release.to_yaml().as_bytes())
        .map_err(|refusal| vec![refusal.at("once rendered").at(&overlay.place)])?;
    Ok(release)
}
