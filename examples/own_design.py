"""Write a design of your own and hold it to the contract that every design of qkvlab meets."""

from dataclasses import dataclass

from qkvlab import Attention
from qkvlab.contracts import Memory, Words
from qkvlab.designs import Design, Matrix
from qkvlab.designs.design import functions, split_heads
from qkvlab.testing import check_design


@dataclass(frozen=True)
class Mirrored(Design):
    """K is Q with its channels in reverse: one matrix, scores that are not an inner product."""

    @property
    def name(self):
        return "mirrored"

    @property
    def words(self):
        return Words("K 是倒序的 Q", "K is Q in reverse")

    def kv_heads(self, dims):
        return dims.heads

    def matrices(self, dims):
        return {
            "q": Matrix(dims.d_model, dims.heads * dims.d_head),
            "v": Matrix(dims.d_model, dims.heads * dims.d_value),
        }

    def ask(self, weights, x, dims, positions):
        return split_heads(x @ weights["q"], dims.heads)

    def remember(self, weights, x, dims, positions):
        return Memory({"q": x @ weights["q"], "v": x @ weights["v"]}, positions)

    def recall(self, weights, memory, dims):
        k = split_heads(memory.kept["q"], dims.heads)
        return functions(k).flip(k, (-1,)), split_heads(memory.kept["v"], dims.heads)

    def project(self, weights, x, dims, positions):
        memory = self.remember(weights, x, dims, positions)
        return split_heads(memory.kept["q"], dims.heads), memory


if __name__ == "__main__":
    check_design(Mirrored())
    attn = Attention(Mirrored(), d_model=32, heads=4)
    print(attn.design.cost(attn.dims))
