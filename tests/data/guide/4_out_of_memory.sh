# Failed benchmarks will be retried without accelerate
python scripts/submissions/run_easi_eval.py \
--backend lmms-eval \
--model qwen3_vl \
--model-args "pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2" \
--no-accelerate
