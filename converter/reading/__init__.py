"""From a file to a model: unwrap, recognise, arrange, settle what tensors do not say."""
