/** A style sheet as text: the bundler and the tests load it so. */
declare module '*.css' {
  const text: string;
  export default text;
}
