"""Whether a machine is ready: judgement of what `launcher.survey` found, one file a subject."""
