use pyo3::prelude::*;
#[pymodule]
fn tickmesh_native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("INTERFACE", 1)
}
