//! Graphs: captured operations, instantiated and replayed.
//!
//! Nodes are stored in the order in which they were recorded. A node follows all nodes it depends on, so a replay in
//! this order satisfies every dependency.

use std::ffi::c_char;
use std::sync::Arc;

use super::abi::{Handle, In, Out};
use super::boundary::{Outcome, call, within};
use super::error::{CUresult, Code};
use super::state::find;
use super::work::{Current, Op};

#[derive(Clone)]
pub struct Node {
    pub op: Op,
    /// The indices of the nodes it depends on.
    pub after: Vec<usize>,
}

#[derive(Clone, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// The handle of the first node, 0 until the program asks for handles. The other nodes' handles follow in steps of
    /// 1.
    pub first_handle: Handle,
}

const AUTO_FREE_ON_LAUNCH: u64 = 1;
const UPLOAD: u64 = 2;
const DEVICE_LAUNCH: u64 = 4;
const USE_NODE_PRIORITY: u64 = 8;

fn instantiate(cx: &Current, exec: Out<Handle>, graph: Handle, flags: u64) -> Outcome {
    if exec.is_null() || flags & !(AUTO_FREE_ON_LAUNCH | UPLOAD | DEVICE_LAUNCH | USE_NODE_PRIORITY) != 0 {
        return Err(Code::InvalidValue.into());
    }
    if flags & DEVICE_LAUNCH != 0 {
        // CUDA forbids the two flags together; the device launch of graphs is not supported here.
        let both = flags & AUTO_FREE_ON_LAUNCH != 0;
        let code = if both { Code::InvalidValue } else { Code::NotSupported };
        return Err(code.because("instantiating a graph for launches from the device is not supported"));
    }
    let mut state = cx.state();
    let graph = Arc::new(find(&state.graphs, graph)?.clone());
    let handle = state.handle();
    state.execs.insert(handle, graph);
    exec.put(handle)
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithFlags(exec: Out<Handle>, graph: Handle, flags: u64) -> CUresult {
    within(|cx| instantiate(cx, exec, graph, flags))
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[derive(Clone, Copy)]
#[repr(C)]
struct InstantiateParams {
    flags: u64,
    upload_stream: Handle,
    error_node: Handle,
    result: i32,
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithParams(
    exec: Out<Handle>,
    graph: Handle,
    params: Out<InstantiateParams>,
) -> CUresult {
    within(|cx| {
        let given = params.get()?;
        let outcome = instantiate(cx, exec, graph, given.flags);
        params.put(InstantiateParams { error_node: 0, result: outcome.is_err() as i32, ..given })?;
        outcome
    })
}

/// The form before CUDA 12, with an error log. A captured graph cannot cause any of its errors.
#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiate_v2(
    exec: Out<Handle>,
    graph: Handle,
    error_node: Out<Handle>,
    log: Out<c_char>,
    log_bytes: usize,
) -> CUresult {
    within(|cx| {
        error_node.offer(0);
        if log_bytes > 0 {
            log.offer(0);
        }
        instantiate(cx, exec, graph, 0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(exec: Handle, stream: Handle) -> CUresult {
    within(|cx| {
        let key = cx.stream(stream)?;
        let mut state = cx.state();
        let graph = find(&state.execs, exec)?.clone();
        let captured = state.capture_status(cx.context, key).number() != 0;
        if !captured {
            state.after_graph(cx.context, key, exec);
        }
        drop(state);
        cx.enqueue(stream, Op::Graph(graph))?;
        if !captured {
            cx.state().graph_launched(cx.context, key, exec);
        }
        Ok(())
    })
}

/// Does nothing: the nodes need no preparation.
#[unsafe(no_mangle)]
extern "C" fn cuGraphUpload(exec: Handle, stream: Handle) -> CUresult {
    within(|cx| {
        find(&cx.state().execs, exec)?;
        cx.stream(stream).map(|_| ())
    })
}

// Objects are removed from the tables under the lock but dropped after it: a graph may own the last reference to a
// kernel, or memory to be freed on the device.

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(exec: Handle) -> CUresult {
    call(|driver| {
        let mut state = driver.state();
        let removed = state.execs.remove(&exec);
        state.graph_destroyed(exec);
        drop(state);
        removed.map(drop).ok_or(Code::InvalidHandle.into())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: Handle) -> CUresult {
    call(|driver| {
        let removed = driver.state().graphs.remove(&graph);
        removed.map(drop).ok_or(Code::InvalidHandle.into())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphCreate(graph: Out<Handle>, flags: u32) -> CUresult {
    within(|cx| {
        if flags != 0 || graph.is_null() {
            return Err(Code::InvalidValue.into());
        }
        let mut state = cx.state();
        let handle = state.handle();
        state.graphs.insert(handle, Graph::default());
        graph.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphClone(clone: Out<Handle>, original: Handle) -> CUresult {
    within(|cx| {
        if clone.is_null() {
            return Err(Code::InvalidValue.into());
        }
        let mut state = cx.state();
        let copy = Graph { first_handle: 0, ..find(&state.graphs, original)?.clone() };
        let handle = state.handle();
        state.graphs.insert(handle, copy);
        clone.put(handle)
    })
}

/// Writes the number of nodes, and their handles if the caller has supplied an array.
fn list(cx: &Current, graph: Handle, nodes: Out<Handle>, count: Out<usize>, roots: bool) -> Outcome {
    let mut state = cx.state();
    if find(&state.graphs, graph)?.first_handle == 0 {
        // The stride of `State::handle` has room for 16 nodes only, so a block of handles is reserved.
        let needed = find(&state.graphs, graph)?.nodes.len().div_ceil(16);
        let first = state.handle();
        for _ in 0..needed {
            state.handle();
        }
        state.graphs.entry(graph).and_modify(|graph| graph.first_handle = first);
    }
    let graph = find(&state.graphs, graph)?;
    let listed: Vec<Handle> = (graph.nodes.iter().enumerate())
        .filter(|(_, node)| !roots || node.after.is_empty())
        .map(|(index, _)| graph.first_handle + index)
        .collect();
    if nodes.is_null() {
        return count.put(listed.len());
    }
    let room = count.get()?;
    let padding = room.saturating_sub(listed.len());
    count.put(listed.len().min(room))?;
    nodes.put_all(listed.into_iter().take(room).chain(std::iter::repeat_n(0, padding)))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) -> CUresult {
    within(|cx| list(cx, graph, nodes, count, false))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) -> CUresult {
    within(|cx| list(cx, graph, nodes, count, true))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphNodeGetType(node: Handle, kind: Out<i32>) -> CUresult {
    within(|cx| {
        let state = cx.state();
        let found = (state.graphs.values())
            .filter(|graph| graph.first_handle != 0 && node >= graph.first_handle)
            .find_map(|graph| graph.nodes.get(node - graph.first_handle));
        kind.put(found.ok_or(Code::InvalidHandle)?.op.node_type())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecGetFlags(exec: Handle, flags: Out<u64>) -> CUresult {
    within(|cx| {
        find(&cx.state().execs, exec)?;
        flags.put(0)
    })
}

/// Writes the nodes and their dependencies in Graphviz format.
#[unsafe(no_mangle)]
extern "C" fn cuGraphDebugDotPrint(graph: Handle, path: In<c_char>, _flags: u32) -> CUresult {
    within(|cx| {
        let path = path.text()?;
        let state = cx.state();
        let mut dot = String::from("digraph captured {\n");
        for (index, node) in find(&state.graphs, graph)?.nodes.iter().enumerate() {
            let label = match &node.op {
                Op::Launch(launch) => launch.kernel.name().to_string(),
                op => format!("type {}", op.node_type()),
            };
            dot.push_str(&format!("  n{index} [label=\"{label}\"];\n"));
            node.after.iter().for_each(|before| dot.push_str(&format!("  n{before} -> n{index};\n")));
        }
        dot.push_str("}\n");
        std::fs::write(path, dot).map_err(|e| Code::OperatingSystem.because(format!("{path}: {e}")))
    })
}
