// Prints what netron's own parser makes of an ONNX file, as JSON: node netron.mjs NETRON_FOLDER FILE
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, file] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(folder, name)));
const { ModelFactoryService } = await load('view.js');
const { BinaryStream } = await load('base.js');

// What netron asks of the window that it otherwise runs in. An error ends the script.
const fail = (error) => { throw error; };
const host = {
    type: 'Script', environment: () => null, event: () => {}, update: () => {}, exception: fail,
    require: (id) => load(`${id.replace(/^\.\//, '')}.js`),
    asset: (name) => readFile(join(folder, name), 'utf-8'),
};
const context = {
    identifier: basename(file), stream: new BinaryStream(new Uint8Array(await readFile(file))), entries: new Map(),
    require: host.require, asset: host.asset, error: fail,
};
const model = await new ModelFactoryService(host).open(context);
const [graph] = model.modules;

const values = (args) => args.flatMap(({ value }) => value);
const names = (args) => values(args).map(({ name }) => name);
const typed = (args) => values(args).map(({ name, type }) => [name, type.dataType, type.shape.dimensions]);
const initializers = values(graph.nodes.flatMap(({ inputs }) => inputs)).filter(({ initializer }) => initializer);
// Numbers of 64 bits are no JSON.
const plain = (_, value) => (typeof value === 'bigint' ? Number(value) : value);

console.log(JSON.stringify({
    format: model.format,
    producer: model.producer,
    opsets: model.imports,
    metadata: Object.fromEntries(model.metadata.map(({ name, value }) => [name, value])),
    inputs: typed(graph.inputs),
    outputs: typed(graph.outputs),
    nodes: graph.nodes.map(({ name, type, inputs, outputs, attributes }) => ({
        name,
        op: type.name,
        // Only operators that netron knows have the version in which they came.
        known: Number.isInteger(type.version),
        inputs: names(inputs),
        outputs: names(outputs),
        attributes: Object.fromEntries(attributes.map(({ name, value }) => [name, value])),
    })),
    initializers: initializers.map(({ name, initializer: { type } }) => [name, type.dataType, type.shape.dimensions]),
}, plain));
