export declare const LAYERS: Readonly<Record<string, readonly string[]>>;
export declare function mayImport(path: string, target: string): boolean;
