/** package.json maps this name to the build of ONNX Runtime for WebAssembly: that for Node, or that for browsers. */
declare module "#onnxruntime" {
  export * from "onnxruntime-web/wasm";
}
